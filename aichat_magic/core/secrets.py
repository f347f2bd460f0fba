"""Values that never print: keys, cookies, proxy addresses with a password, the environment that holds them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, AnyStr, NoReturn
from urllib.parse import quote

from .errors import ConfigError

# In characters. Shorter ones are words ("ollama", "not-needed") that a model may well write; in errors a false find
# does no harm.
_SHORTEST_IN_REPLY = 16
_SHORTEST_IN_ERROR = 6
_PLAIN = re.compile(r"[\w.~-]+", re.ASCII)


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


class Environment(Mapping[str, str]):
    """Variables by name, always as they are now, and shown nowhere: keys stand among them.

    Tracebacks, debuggers and error trackers print the variables of every frame, and `environ` is one of most frames.
    """

    __slots__ = ("_get",)
    _get: Callable[[], Mapping[str, str]]

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Read `variables`, which is not copied."""
        self._get = variables._get if isinstance(variables, Environment) else lambda: variables

    def __getitem__(self, name: str) -> str:
        """The value of a variable."""
        return self._get()[name]

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._get())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._get())

    def __repr__(self) -> str:
        """Neither names nor values."""
        return "Environment(****)"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse: a pickle is a file in plain text."""
        raise TypeError("an Environment cannot be pickled or copied")


class Scrubber:
    """Takes the secrets of a request out of what comes back: servers repeat keys, in errors above all."""

    __slots__ = ("_forms",)
    _forms: Callable[[], list[tuple[int, str]]]

    def __init__(self, secrets: Iterable[Secret]) -> None:
        """Look for these."""
        forms = [(len(secret.reveal()), form) for secret in secrets for form in _forms_of(secret.reveal())]
        self._forms = lambda: forms

    def reply(self, text: AnyStr) -> AnyStr:
        """The text or bytes of a reply, with stars for the secrets that no model writes by chance."""
        return self._scrubbed(text, _SHORTEST_IN_REPLY)

    def error(self, text: AnyStr) -> AnyStr:
        """The text or bytes of an error, with stars for all secrets but the shortest."""
        return self._scrubbed(text, _SHORTEST_IN_ERROR)

    def _scrubbed(self, text: AnyStr, shortest: int) -> AnyStr:
        for length, form in self._forms():
            if length >= shortest:
                text = text.replace(form, "****") if isinstance(text, str) else text.replace(form.encode(), b"****")
        return text


def _forms_of(value: str) -> list[str]:
    """A secret as it is, and as JSON and URLs write it; the longest first."""
    if _PLAIN.fullmatch(value):  # as most keys are: there is one way to write it
        return [value]
    escaped = json.dumps(value)[1:-1]
    forms = {value, escaped, escaped.replace("/", "\\/"), quote(value), quote(value, safe="")}
    return sorted(forms, key=len, reverse=True)


def key_from(value: Secret, source: str) -> Secret:
    """A key, checked for what no HTTP header can carry.

    Args:
        value: The key as read.
        source: Where it was read, for the error: ``"OPENAI_API_KEY"``.

    Returns:
        The key.

    Raises:
        ConfigError: It holds white space, a control character or a character outside ASCII. The error does not show
            the key.
    """
    if any(not ("!" <= char <= "~") for char in value.reveal()):
        raise ConfigError(
            f"The key in {source} holds a space, a line end or another character that no key has. "
            f"It was not sent. Set {source} again, without quotes or line ends."
        )
    return value
