"""What is wrong with an answer: where, what must be, what came."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..text.words import shorten

_MAX_PROBLEMS = 3

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: Keys and indexes that lead to it.
        must: What it must be, to go on behind the path: ``must be an integer``.
        got: What came; empty where nothing did.
        is_kind: Whether it is another kind of value altogether, so that this alternative of several is not meant.
        is_missing: Whether a required property is not there.
        mend: What stands for the same and may satisfy the schema: `DROP`, a whole number; None where there is nothing.
    """

    path: Path = ()
    must: str = ""
    got: str = ""
    is_kind: bool = False
    is_missing: bool = False
    mend: Any = None

    def __str__(self) -> str:
        """One line."""
        got = f", got {self.got}" if self.got else ""
        where = shorten(path_text(self.path), 80)
        return f"{where}: {self.must}{got}" if where else f"the answer {self.must}{got}"


# A property that is null where it may be left out: the schema that is sent asks for this.
DROP = object()


@dataclass(slots=True)
class ValuePlace:
    """All that is wrong at one place of an answer, below it, and in the alternatives that were tried for it."""

    path: Path = ()
    problems: list[Problem] = field(default_factory=list)
    parts: dict[str | int, ValuePlace] = field(default_factory=dict)
    branches: dict[Any, ValuePlace] = field(default_factory=dict)

    def part(self, key: str | int) -> ValuePlace:
        """Return the place of a property or item."""
        return self.parts.setdefault(key, ValuePlace((*self.path, key)))

    def branch(self, label: Any) -> ValuePlace:
        """Return the same place as one of several alternatives sees it."""
        return self.branches.setdefault(label, ValuePlace(self.path))

    def leaves(self) -> Iterator[Problem]:
        """Yield all problems, those of every alternative included."""
        yield from self.problems
        for below in (*self.parts.values(), *self.branches.values()):
            yield from below.leaves()

    def told(self) -> list[Problem]:
        """Return the problems to tell: of several alternatives those of the one that was most likely meant."""
        found = [*self.problems, *(problem for part in self.parts.values() for problem in part.told())]
        if not self.branches:
            return list(dict.fromkeys(found))
        tried = [branch.told() for branch in self.branches.values()]
        # Of the right kind but wrong further in: that is what the model can mend.
        near = [problems for problems in tried if not any(p.path == self.path and p.is_kind for p in problems)]
        if near:
            return list(dict.fromkeys([*found, *min(near, key=len)]))
        here = [problem for problems in tried for problem in problems if problem.path == self.path]
        musts = dict.fromkeys(problem.must.removeprefix("must be ") for problem in here)
        must = f"must be {' or '.join(musts)}"
        return [*found, Problem(path=self.path, must=must, got=here[0].got, is_kind=True)]


def mended(value: Any, attempt: Callable[[Any], tuple[Any, ValuePlace | None]]) -> tuple[Any, ValuePlace | None]:
    """Try a value, and if it fails, try it again with what stands for the same.

    Null stands for a property that may be left out, because strict schemas require every property; 3.0 for 3.

    Args:
        value: What JSON gives.
        attempt: Returns the result and None, or anything and what is wrong.

    Returns:
        The same of the attempt that went best.
    """
    result, place = attempt(value)
    if place is None:
        return result, None
    mends = {problem.path: problem.mend for problem in place.leaves() if problem.mend is not None}
    while mends:
        again, left = attempt(_changed(value, mends))
        if left is None:
            return again, None
        # What is required all the same stays as it came, so that the message can say so.
        missing = {problem.path for problem in left.leaves() if problem.is_missing}
        kept = {path: mend for path, mend in mends.items() if path not in missing}
        if len(kept) == len(mends):
            return again, left
        mends = kept
    return result, place


def _changed(value: Any, mends: dict[Path, Any]) -> Any:
    """Return a copy in which the places are mended."""
    root = [copy.deepcopy(value)]
    for path, mend in mends.items():
        here: Any = root
        *way, last = (0, *path)
        for key in way:
            here = here[key]
        if mend is DROP:
            del here[last]
        else:
            here[last] = mend
    return root[0]


def rendered(problems: Iterable[Problem]) -> str:
    """Put the first problems into one line."""
    lines = [str(problem) for problem in problems]
    more = f"; and {len(lines) - _MAX_PROBLEMS} more" if len(lines) > _MAX_PROBLEMS else ""
    return "; ".join(lines[:_MAX_PROBLEMS]) + more


def path_text(path: Iterable[str | int]) -> str:
    """Write a path as ``parts[0].name``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{shorten(key, 40)}" for key in path).removeprefix(".")


def shown(value: Any) -> str:
    """Show a value in a message."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return shorten(repr(value), 60)
