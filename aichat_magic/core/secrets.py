"""Strings masked in repr, logs and tracebacks: keys, cookies, proxy URLs with a password, environment variables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, AnyStr, NoReturn
from urllib.parse import quote

from .errors import ConfigError

# In characters. Shorter ones are words ("ollama", "not-needed") that a model may well write; in errors a false match
# does no harm.
_SHORTEST_IN_REPLY = 16
_SHORTEST_IN_ERROR = 6
_PLAIN = re.compile(r"[\w.~-]+", re.ASCII)


class Secret:
    """One secret string, masked wherever it is shown.

    `repr`, `str`, `format` and `vars` give stars; pickling and copying into JSON fail. Only `reveal()` gives the
    value, so that a search for it finds every place that uses a secret.
    """

    __slots__ = ("_reveal",)
    _reveal: Callable[[], str]

    def __init__(self, value: str) -> None:
        """Wrap `value` in a closure, because debuggers and dumps would show a slot."""
        object.__setattr__(self, "_reveal", lambda: value)

    def reveal(self) -> str:
        """Return the secret itself. Never put it into a local variable: tracebacks show those."""
        return self._reveal()

    def __repr__(self) -> str:
        """Return stars, whatever the length."""
        return "Secret('****')"

    def __str__(self) -> str:
        """Return stars, whatever the length."""
        return "****"

    def __format__(self, spec: str) -> str:
        """Return stars, whatever the length."""
        return "****"

    def __eq__(self, other: object) -> bool:
        """Compare the strings of two secrets."""
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        """Return the hash of the string."""
        return hash(self.reveal())

    def __bool__(self) -> bool:
        """Return False for the empty string."""
        return bool(self.reveal())

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        """Refuse: a secret is frozen."""
        raise AttributeError("a Secret cannot be changed")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse: a pickle is a file in plain text."""
        raise TypeError("a Secret cannot be pickled or copied")


class Environment(Mapping[str, str]):
    """Environment variables, read live and masked wherever they are shown, because keys are among them.

    Tracebacks, debuggers and error trackers print the variables of every frame, and many frames have an `environ`.
    """

    __slots__ = ("_get",)
    _get: Callable[[], Mapping[str, str]]

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Wrap `variables` without a copy."""
        self._get = variables._get if isinstance(variables, Environment) else lambda: variables

    def __getitem__(self, name: str) -> str:
        """Return the value of a variable."""
        return self._get()[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._get())

    def __len__(self) -> int:
        """Return the number of variables."""
        return len(self._get())

    def __repr__(self) -> str:
        """Return neither names nor values."""
        return "Environment(****)"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse: a pickle is a file in plain text."""
        raise TypeError("an Environment cannot be pickled or copied")


class Scrubber:
    """A filter that masks the secrets of a request in its response: servers repeat keys, above all in errors."""

    __slots__ = ("_forms",)
    _forms: Callable[[], list[tuple[int, str]]]

    def __init__(self, secrets: Iterable[Secret]) -> None:
        """Create a filter for these secrets."""
        forms = [(len(secret.reveal()), form) for secret in secrets for form in _forms_of(secret.reveal())]
        self._forms = lambda: forms

    def reply(self, text: AnyStr) -> AnyStr:
        """Mask in the text or bytes of a reply the secrets that no model writes by chance."""
        return self._scrubbed(text, _SHORTEST_IN_REPLY)

    def error(self, text: AnyStr) -> AnyStr:
        """Mask in the text or bytes of an error all secrets but the shortest."""
        return self._scrubbed(text, _SHORTEST_IN_ERROR)

    def _scrubbed(self, text: AnyStr, shortest: int) -> AnyStr:
        for length, form in self._forms():
            if length >= shortest:
                text = text.replace(form, "****") if isinstance(text, str) else text.replace(form.encode(), b"****")
        return text


def _forms_of(value: str) -> list[str]:
    """Return a secret as it is, and as JSON and URLs write it; the longest first."""
    if _PLAIN.fullmatch(value):  # like most keys: JSON and URLs write it as it is
        return [value]
    escaped = json.dumps(value)[1:-1]
    forms = {value, escaped, escaped.replace("/", "\\/"), quote(value), quote(value, safe="")}
    return sorted(forms, key=len, reverse=True)


def key_from(value: Secret, source: str, mend: str = "") -> Secret:
    """Check that an HTTP header can carry a key.

    Args:
        value: The key as read.
        source: Where it was read, for the error: ``"OPENAI_API_KEY"``.
        mend: What to do, as a sentence; empty: set `source` again.

    Returns:
        The same key.

    Raises:
        ConfigError: It holds white space, a control character or a character outside ASCII. The error does not show
            the key.
    """
    if any(not ("!" <= char <= "~") for char in value.reveal()):
        raise ConfigError(
            f"The key in {source} holds a space, a line end or another character that no key has. "
            f"It was not sent. {mend or f'Set {source} again, without quotes or line ends.'}"
        )
    return value
