"""A row of the table."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A defence, and what stands in its place once it is taken out.

    `by` must still be a program that runs: what fails is the behaviour, not the import.

    Attributes:
        where: ``module:name`` below the package: a function, ``Class.method``, ``Class.attribute`` or a constant;
            ``module:`` is all of it.
        by: Python expression that takes its place, such as ``lambda *_: None``; in it, `original` is what was there.
        what: Name that is replaced inside of `where`, which itself stays: a function that is called, an error that is
            raised, an attribute, a variable or a constant, as a dotted name or the end of one.
        tests: Those of the row's tests that must fail without it; empty: all of them are run, and one at least must
            fail.
    """

    where: str
    by: str
    what: str = ""
    tests: tuple[str, ...] = ()

    def as_json(self) -> str:
        """Return what `removals.install` reads."""
        return json.dumps({"where": self.where, "what": self.what, "by": self.by})

    def __str__(self) -> str:
        return f"{self.where}{self.what and f' without {self.what}'}: {self.by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault, what must come of it, and who shows it.

    Attributes:
        number: Number of the row.
        part: Letter after the number, where several rows have it: ``"a"``.
        fault: What goes wrong.
        outcome: What must come of it.
        tests: ``path::function``, relative to `tests/`.
        removals: How to see the tests red.
        checks: Where the tests read files instead of running code: tests of the very check, which has to find what is
            planted for it.
    """

    number: int
    fault: str
    outcome: str
    tests: tuple[str, ...]
    removals: tuple[Removal, ...] = ()
    checks: tuple[str, ...] = ()
    part: str = ""
