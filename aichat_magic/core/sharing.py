"""Tuples that many values have the most of in common, kept as what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Remade(tuple[T, ...]):
    """A tuple that can be made again, so that nobody has to keep it.

    Attributes:
        remake: Makes it again; what this refers to is shared with other tuples.
    """

    remake: Callable[[], Remade[T]]

    @classmethod
    def of(cls, items: Iterable[T], remake: Callable[[], Remade[T]]) -> Remade[T]:
        """Return items as a tuple that `remake` makes again."""
        made = cls(items)
        made.remake = remake
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Be a plain tuple in pickles and copies."""
        return tuple, (list(self),)


class _Field:
    """A field that keeps a `Remade` as its `remake`, and any other value as it is."""

    def __init__(self, slot: Any) -> None:
        self._get, self._set = slot.__get__, slot.__set__

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self
        kept = self._get(owner, kind)
        return kept() if callable(kept) else kept

    def __set__(self, owner: Any, value: Any) -> None:
        self._set(owner, value.remake if isinstance(value, Remade) else value)


def remakes(name: str) -> Callable[[C], C]:
    """Return a decorator for a class with slots whose field `name`, a tuple, keeps no `Remade` but makes it again.

    A conversation of n turns has sent n histories. Kept as tuples, they take memory that grows with the square of n.

    Args:
        name: The field.
    """

    def decorated(cls: C) -> C:
        setattr(cls, name, _Field(cls.__dict__[name]))
        return cls

    return decorated
