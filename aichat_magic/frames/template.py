"""Column templates: prompts with columns in braces, parsed and checked once, and filled for every row."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import PromptError
from ..text.formulas import formula_spans
from ..text.words import did_you_mean, nearest_name, shorten

_BRACES = re.compile(r"\{([^{}]*)\}")
# What reads as a name: words, hyphenated ones, and paths such as `user.name` and `row["title"]`. Numbers are common in
# LaTeX and in formats, and single letters with a hyphen are mathematics.
_WORD = r"[^\W\d]\w*"
_NAME = re.compile(rf"{_WORD}(?: +\w+)*|[^\W\d]\w+(?:-\w+)+|{_WORD}(?:\.\w+|\[[^\[\]]*\])+")
# A conversion or a format of Python after a name: `!r`, `:.2f`, `:%Y-%m`, `=`.
_FORMAT = re.compile(r"\s*(?:!\w|(?:!\w)?:(?:[^\s\w]?[<>=^])?[-+]?#?[\d,_]*(?:\.\d+)?(?:[a-zA-Z%]|%\S*)?|=)\s*")
_CHARS_NAMED = 200
_MAX_NAME_CHARS = 100
# How alike two names are of which one is a slip of the other: `price($)` and `price ($)`, not `label: x` and `label`.
_LIKENESS = 0.8
_TO_KEEP = "In doubled braces it stays text; raw=True (in a cell: --raw) fills nothing."


@dataclass(frozen=True, slots=True)
class ColumnTemplate:
    """A parsed column template: ``parts[0] columns[0] parts[1] columns[1] ... parts[-1]``.

    Attributes:
        parts: The texts between the columns, one more than there are columns.
        columns: The positions of the columns in the frame, in the order of the text.
    """

    parts: tuple[str, ...]
    columns: tuple[int, ...]

    @classmethod
    def parse(cls, text: str, columns: Iterable[Hashable], *, is_raw: bool = False) -> ColumnTemplate:
        """Parse a column template.

        A brace is filled where it names a column, whatever the column is called: as the frame shows the name, with
        white space around it or not; a tuple also as its parts joined by dots. JSON, quoted text, numbers, what is
        part of a formula and nearly names no column, and doubled braces are text.

        Args:
            text: The template, such as ``"Classify: {title} {body text}"``.
            columns: Names of the frame's columns.
            is_raw: Whether all braces are text; the prompt of every row is then the same.

        Raises:
            PromptError: It is empty or contains no column, a brace names a column that the frame has more than once,
                or it nearly names one, or contains something else that reads as a name.
        """
        if not isinstance(text, str) or not text.strip():
            raise PromptError('The column template is empty. Write a prompt with columns in braces: "Sum up: {body}".')
        if is_raw:
            return cls((text,), ())
        known = _ColumnNames(columns)
        parts, positions, end = [], [], 0
        formulas = formula_spans(text)
        for start, stop, inner in _in_braces(text, known):
            position = known.position(inner, is_in_formula=any(begin <= start < close for begin, close in formulas))
            if position is None:
                continue
            parts.append(text[end:start])
            positions.append(position)
            end = stop
        if not positions:
            raise PromptError(
                f"The column template names no column, so the prompt of every row would be the same. "
                f"Write columns in single braces, or raw=True (in a cell: --raw) if that is meant. {known.listed()}"
            )
        return cls((*parts, text[end:]), tuple(positions))

    def fill(self, values: Sequence[str]) -> str:
        """Return the prompt of one row. Braces in values are text."""
        pieces = [self.parts[0]]
        for value, part in zip(values, self.parts[1:], strict=True):
            pieces += (value, part)
        return "".join(pieces)

    def rows(
        self, columns: Sequence[Iterable[Any]], is_missing: Callable[[Any], bool], n_rows: int = 0
    ) -> Iterator[str | PromptError | None]:
        """Yield the prompt of each row; None if a value is missing, an error if one cannot be converted to text.

        Args:
            columns: The values of each column, in the order of the attribute `columns`.
            is_missing: Tells whether a value is missing.
            n_rows: Number of rows, for a template without columns.
        """
        if not columns:
            for _ in range(n_rows):
                yield self.parts[0]
        for position, values in enumerate(zip(*columns, strict=True)):
            prompt: str | PromptError | None
            try:
                if any(map(is_missing, values)):
                    prompt = None
                else:
                    prompt = self.fill([value if isinstance(value, str) else str(value) for value in values])
            except Exception as error:
                prompt = unreadable_row(position, error)
            yield prompt


class _ColumnNames:
    """The names of a frame's columns, as a column template may write them."""

    def __init__(self, columns: Iterable[Hashable]) -> None:
        self._positions: dict[str, list[int]] = {}
        aliases: dict[str, list[int]] = {}
        for position, column in enumerate(columns):
            self._positions.setdefault(str(column), []).append(position)
            if isinstance(column, tuple):
                # A column of a MultiIndex: pandas, too, leaves out empty levels at the end.
                aliases.setdefault(".".join(str(part) for part in column if part != ""), []).append(position)
        # An alias never stands for another column's own name.
        self._positions = {**aliases, **self._positions}
        self.with_braces = [name for name in self._positions if "{" in name or "}" in name]

    def position(self, inner: str, *, is_in_formula: bool = False) -> int | None:
        """Return the position of the column that a brace names; None if the brace is text.

        Args:
            inner: What stands between the braces.
            is_in_formula: Whether the brace may be that of a formula, where names are common.

        Raises:
            PromptError: The column is there more than once, or the brace seems to be meant for a column.
        """
        name = inner if inner in self._positions else inner.strip()
        if name in self._positions:
            if (count := len(self._positions[name])) > 1:
                raise PromptError(f"There are {count} columns called {name!r}. Rename one of them first.")
            return self._positions[name][0]
        self._refuse_near(name, is_in_formula)
        return None

    def listed(self) -> str:
        """Return a sentence with the names of the columns."""
        return f"Columns: {shorten(', '.join(self._positions), _CHARS_NAMED)}."

    def _refuse_near(self, name: str, is_in_formula: bool) -> None:
        """Refuse a brace that nearly names a column, or that reads as a name outside of formulas.

        Raises:
            PromptError: It does.
        """
        if not name or len(name) > _MAX_NAME_CHARS:
            return
        shown = shorten(name, 60)
        base = _without_format(name)
        if is_in_formula and not nearest_name(base, self._positions):
            return
        if base != name and (base in self._positions or _NAME.fullmatch(base)):
            meant = base if base in self._positions else nearest_name(base, self._positions) or base
            raise PromptError(
                f"{{{shown}}} is no column, and formats are not applied: columns go in as text. Write {{{meant}}}, and "
                f"format the column before. {_TO_KEEP}"
            )
        if _NAME.fullmatch(name):
            raise PromptError(
                f"There is no column {shown!r}.{did_you_mean(name, self._positions)} {self.listed()} {_TO_KEEP}"
            )
        if name[0] not in "\"'" and (found := self._alike(name)):
            raise PromptError(f"There is no column {shown!r}. Did you mean {found!r}? {self.listed()} {_TO_KEEP}")

    def _alike(self, name: str) -> str:
        """Return the name of a column that differs from `name` in little but its punctuation; empty if none does."""
        lowered = {known.casefold(): known for known in self._positions}
        found = difflib.get_close_matches(name.casefold(), list(lowered), n=1, cutoff=_LIKENESS)
        return lowered[found[0]] if found else ""


def _in_braces(text: str, known: _ColumnNames) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and content of what stands in a single pair of braces."""
    start = text.find("{")
    while start >= 0:
        # Only a column that is called so has braces inside its own.
        inner = next((name for name in known.with_braces if text.startswith(f"{{{name}}}", start)), None)
        if inner is None and (match := _BRACES.match(text, start)):
            inner = match[1]
        stop = start + 1
        if inner is not None:
            stop = start + len(inner) + 2
            if not (text[start - 1 : start] == "{" and text[stop : stop + 1] == "}"):
                yield start, stop, inner
        start = text.find("{", stop)


def _without_format(name: str) -> str:
    """Return what stands before a conversion or a format of Python; the name itself if there is none."""
    for match in re.finditer(r"[!:=]", name):
        if _FORMAT.fullmatch(name, match.start()):
            return name[: match.start()].strip()
    return name


def unreadable_row(position: int, error: Exception) -> PromptError:
    """Return the error of a row with a value that cannot be converted to text, because its own code raises.

    Args:
        position: The row's position, from 0.
        error: The exception that the value raised.
    """
    # Works for exceptions whose own text raises, too.
    text = shorten("".join(traceback.format_exception_only(error)).strip(), 100)
    return PromptError(f"Row {position} cannot be made into a prompt: a value in it raises {text}. Fix or remove it.")
