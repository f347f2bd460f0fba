"""Column templates: prompts with columns in braces, parsed and checked once, and filled for every row."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import PromptError
from ..text.words import nearest, shorten

# The name of a column is one word or several, in one pair of braces. All other braces (dicts, format specifications,
# LaTeX, doubled ones) are text.
_COLUMN = re.compile(r"(?<!\{)\{(\w[\w ]*)\}(?!\})")


@dataclass(frozen=True, slots=True)
class ColumnTemplate:
    """A parsed column template: ``parts[0] columns[0] parts[1] columns[1] ... parts[-1]``.

    Attributes:
        parts: The texts between the columns, one more than there are columns.
        columns: The names of the columns, in the order of the text.
    """

    parts: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, columns: Iterable[str]) -> ColumnTemplate:
        """Parse a column template.

        Args:
            text: The template, such as ``"Classify: {title} {body text}"``.
            columns: Names of the frame's columns.

        Raises:
            PromptError: It is empty, contains no column, or names one that the frame lacks or has more than once.
        """
        if not isinstance(text, str) or not text.strip():
            raise PromptError('The column template is empty. Write a prompt with columns in braces: "Sum up: {body}".')
        known = list(columns)
        parts, names, end = [], [], 0
        for match in _COLUMN.finditer(text):
            name = match[1] if match[1] in known else match[1].strip()
            if name not in known and name[0].isdecimal():
                continue  # numbers in braces are common in LaTeX and format strings
            if name not in known:
                raise PromptError(
                    f"There is no column {shorten(name, 60)!r}.{nearest(name, known)} "
                    f"Columns: {shorten(', '.join(known), 200)}."
                )
            if known.count(name) > 1:
                raise PromptError(f"There are {known.count(name)} columns called {name!r}. Rename one of them first.")
            parts.append(text[end : match.start()])
            names.append(name)
            end = match.end()
        if not names:
            raise PromptError(
                f"The column template names no column, so the prompt of every row would be the same. "
                f"Columns: {shorten(', '.join(known), 200)}."
            )
        return cls((*parts, text[end:]), tuple(names))

    def fill(self, values: Sequence[str]) -> str:
        """Return the prompt of one row. Braces in values are text."""
        pieces = [self.parts[0]]
        for value, part in zip(values, self.parts[1:], strict=True):
            pieces += (value, part)
        return "".join(pieces)

    def rows(
        self, columns: Sequence[Iterable[Any]], is_missing: Callable[[Any], bool]
    ) -> Iterator[str | PromptError | None]:
        """Yield the prompt of each row; None if a value is missing, an error if one cannot be converted to text.

        Args:
            columns: The values of each column, in the order of the attribute `columns`.
            is_missing: Tells whether a value is missing.
        """
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


def unreadable_row(position: int, error: Exception) -> PromptError:
    """Return the error of a row with a value that cannot be converted to text, because its own code raises.

    Args:
        position: The row's position, from 0.
        error: The exception that the value raised.
    """
    # Works for exceptions whose own text raises, too.
    text = shorten("".join(traceback.format_exception_only(error)).strip(), 100)
    return PromptError(f"Row {position} cannot be made into a prompt: a value in it raises {text}. Fix or remove it.")
