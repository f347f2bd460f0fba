"""A row of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A defence taken out: `old` stands exactly once in the file, and `new` takes its place.

    `new` must still be a program that runs: what fails is the behaviour, not the import.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    """Those of the row's tests that must fail without it; empty: all of them are run, and one at least must fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault, what must come of it, and who shows it.

    `tests` are `path::function`, relative to `tests/`.
    """

    number: int
    fault: str
    outcome: str
    tests: tuple[str, ...]
    removals: tuple[Removal, ...]
