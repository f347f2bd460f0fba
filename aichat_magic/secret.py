"""A value that never prints: keys, cookies, proxy addresses with a password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from .errors import ConfigError


class Secret:
    """Holds one secret string and shows it nowhere by itself.

    `repr`, `str`, `format` and `vars` give stars; pickling and copying into JSON fail. `reveal()` is the only way
    to the value, so that a search for it finds every place that uses a secret.
    """

    __slots__ = ("_reveal",)
    _reveal: Callable[[], str]

    def __init__(self, value: str) -> None:
        """Wrap `value`. A closure holds it, because a slot would show up in debuggers and dumps."""
        object.__setattr__(self, "_reveal", lambda: value)

    def reveal(self) -> str:
        """The secret itself. Never put the result into a local variable: tracebacks show those."""
        return self._reveal()

    def __repr__(self) -> str:
        """Stars, whatever the length."""
        return "Secret('****')"

    def __str__(self) -> str:
        """Stars, whatever the length."""
        return "****"

    def __format__(self, spec: str) -> str:
        """Stars, whatever the length."""
        return "****"

    def __eq__(self, other: object) -> bool:
        """Equal when both hold the same string."""
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        """Hash of the string."""
        return hash(self.reveal())

    def __bool__(self) -> bool:
        """False for the empty string."""
        return bool(self.reveal())

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        """Refuse: a secret is frozen."""
        raise AttributeError("a Secret cannot be changed")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse: a pickle is a file in plain text."""
        raise TypeError("a Secret cannot be pickled or copied")


def key_from(value: str, source: str) -> Secret:
    """A key, checked for what no HTTP header can carry.

    Args:
        value: The key as read.
        source: Where it was read, for the error: ``"OPENAI_API_KEY"``.

    Returns:
        The key as a `Secret`.

    Raises:
        ConfigError: It holds white space, a control character or a character outside ASCII. The error does not show
            the key.
    """
    if any(not ("!" <= char <= "~") for char in value):
        raise ConfigError(
            f"The key in {source} holds a space, a line end or another character that no key has. "
            f"It was not sent. Set {source} again, without quotes or line ends."
        )
    return Secret(value)
