"""Problems of an answer: where, what is required, what came."""

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
    """A problem.

    Attributes:
        path: Keys and indexes that lead to it.
        must: The requirement, as it continues after the path: ``must be an integer``.
        got: The value that came; empty where none did.
        is_wrong_type: Whether it is another kind of value altogether, so that this alternative of several is not meant.
        is_missing: Whether a required property is not there.
        replacement: A value that means the same and may satisfy the schema: `DROP` or a whole number; None for none.
    """

    path: Path = ()
    must: str = ""
    got: str = ""
    is_wrong_type: bool = False
    is_missing: bool = False
    replacement: Any = None

    def __str__(self) -> str:
        """Write it in one line."""
        got = f", got {self.got}" if self.got else ""
        where = shorten(path_text(self.path), 80)
        return f"{where}: {self.must}{got}" if where else f"the answer {self.must}{got}"


# Leave the property out: the schema that is sent asks for null where it may be left out.
DROP = object()


@dataclass(slots=True)
class ProblemTree:
    """The problems at one place of an answer, below it, and in the alternatives that were tried for it.

    Attributes:
        path: Keys and indexes that lead to the place.
        own: The problems of the place itself.
        parts: The problems of its properties or items.
        alternatives: The problems of the same place in each of several alternatives of the schema, by any label.
    """

    path: Path = ()
    own: list[Problem] = field(default_factory=list)
    parts: dict[str | int, ProblemTree] = field(default_factory=dict)
    alternatives: dict[Any, ProblemTree] = field(default_factory=dict)

    def part(self, key: str | int) -> ProblemTree:
        """Return the problems of a property or item."""
        return self.parts.setdefault(key, ProblemTree((*self.path, key)))

    def alternative(self, label: Any) -> ProblemTree:
        """Return the problems of the same place in one of several alternatives."""
        return self.alternatives.setdefault(label, ProblemTree(self.path))

    def all_problems(self) -> Iterator[Problem]:
        """Yield all problems, also those of every alternative."""
        yield from self.own
        for below in (*self.parts.values(), *self.alternatives.values()):
            yield from below.all_problems()

    def relevant(self) -> list[Problem]:
        """Return the problems to report: of several alternatives those of the one that was most likely meant."""
        found = [*self.own, *(problem for part in self.parts.values() for problem in part.relevant())]
        if not self.alternatives:
            return list(dict.fromkeys(found))
        tried = [alternative.relevant() for alternative in self.alternatives.values()]
        # Of the right type, but wrong further in: that is what the model can correct.
        near = [problems for problems in tried if not any(p.path == self.path and p.is_wrong_type for p in problems)]
        if near:
            return list(dict.fromkeys([*found, *min(near, key=len)]))
        here = [problem for problems in tried for problem in problems if problem.path == self.path]
        musts = dict.fromkeys(problem.must.removeprefix("must be ") for problem in here)
        must = f"must be {' or '.join(musts)}"
        return [*found, Problem(path=self.path, must=must, got=here[0].got, is_wrong_type=True)]


def attempt_with_replacements(
    value: Any, attempt: Callable[[Any], tuple[Any, ProblemTree | None]]
) -> tuple[Any, ProblemTree | None]:
    """Try a value, and if it fails, try it again with replacements that mean the same.

    Null means a property that is left out, because strict schemas require every property; 3.0 means 3.

    Args:
        value: A JSON value.
        attempt: Returns the result and None, or anything and the problems.

    Returns:
        What the best attempt returned.
    """
    result, problems = attempt(value)
    if problems is None:
        return result, None
    replacements = {
        problem.path: problem.replacement for problem in problems.all_problems() if problem.replacement is not None
    }
    while replacements:
        again, left = attempt(_with_replacements(value, replacements))
        if left is None:
            return again, None
        # A property that is required all the same stays as it came, so that the message can say so.
        missing = {problem.path for problem in left.all_problems() if problem.is_missing}
        kept = {path: replacement for path, replacement in replacements.items() if path not in missing}
        if len(kept) == len(replacements):
            return again, left
        replacements = kept
    return result, problems


def _with_replacements(value: Any, replacements: dict[Path, Any]) -> Any:
    """Return a copy of a value with replacements at some places."""
    root = [copy.deepcopy(value)]
    for path, replacement in replacements.items():
        here: Any = root
        *parents, last = (0, *path)
        for key in parents:
            here = here[key]
        if replacement is DROP:
            del here[last]
        else:
            here[last] = replacement
    return root[0]


def rendered(problems: Iterable[Problem]) -> str:
    """Write the first problems in one line."""
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
