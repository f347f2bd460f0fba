"""Helpers for messages: the nearest known name, and long text shortened to one line."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the known name nearest to `name`.

    Args:
        name: What the user wrote.
        known: The names that exist.

    Returns:
        `` Did you mean 'x'?`` with a leading space, or an empty string when nothing is near.
    """
    found = nearest_name(name, known)
    return f" Did you mean {found!r}?" if found else ""


def nearest_name(name: str, known: Iterable[str], *, least: float = 0.6) -> str:
    """Return the known name nearest to `name`; empty when none is near: a likeness of `least` or more, up to 1."""
    import difflib  # only errors need it

    lowered = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=least)
    return lowered[match[0]] if match else ""


def is_slip_of(name: str, known: str) -> bool:
    """Tell whether `name` is `known` with a letter too many, too few, wrong or swapped with the next, or in other case.

    Args:
        name: What the user wrote.
        known: A name that exists. Names of one letter have no slips: they are too many.
    """
    one, other = sorted((name.lower(), known.lower()), key=len)
    if name == known or len(one) < 2 or len(other) - len(one) > 1:
        return False
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[at:] == other[at + 1 :]
    is_swapped = one[at : at + 2] == other[at : at + 2][::-1] and one[at + 2 :] == other[at + 2 :]
    return is_swapped or (one[at + 1 :] == other[at + 1 :] and (len(one) > 2 or at == len(one)))


def shorten(text: str, limit: int = 200) -> str:
    """Shorten a text from outside to one printable line.

    Args:
        text: Any text: a body, a header, a user's value.
        limit: Longest result, in characters, >= 1.

    Returns:
        The text with white space folded and unprintable characters escaped, cut with an ellipsis.
    """
    line = " ".join(text[: limit * 8].split())
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"
