"""What a value is, told by the names of its classes: no library is imported that the user has not imported."""

from __future__ import annotations

from typing import Any

from ..text.words import shorten


def kind_of(value: Any) -> str:
    """What a value is, in a word: ``class``, or the name of its type."""
    if isinstance(value, type):
        return "class"
    return shorten(type(value).__name__, 40)


def is_of(value: Any, library: str, *names: str) -> bool:
    """Whether a class of `value`, by its name, is one of `names` of a library."""
    return any(
        cls.__name__ in names and str(cls.__module__).partition(".")[0] == library for cls in type(value).__mro__
    )


def has_method(value: Any, method: str) -> bool:
    """Whether the type has a method. The value itself is not asked: it may answer to any name."""
    return any(method in vars(cls) for cls in type(value).__mro__)
