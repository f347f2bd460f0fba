"""A template over columns: parsed and checked once, filled for every row."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import PromptError
from ..text.words import nearest, shorten

# Words, perhaps with spaces between them, in one pair of braces: what a column can be called in a template. All other
# braces (dicts, format specifications, LaTeX, doubled ones) are text.
_COLUMN = re.compile(r"(?<!\{)\{(\w[\w ]*)\}(?!\})")


@dataclass(frozen=True, slots=True)
class ColumnTemplate:
    """Texts and the columns between them: ``parts[0] columns[0] parts[1] columns[1] ... parts[-1]``."""

    parts: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, columns: Iterable[str]) -> ColumnTemplate:
        """Find the columns in a template.

        Args:
            text: ``"Classify: {title} {body text}"``.
            columns: Names of the columns there are.

        Raises:
            PromptError: The template is empty, or names a column that is not there; names the nearest.
        """
        if not isinstance(text, str) or not text.strip():
            raise PromptError('The template is empty. Write a prompt with columns in braces, such as "Sum up: {body}".')
        known = list(columns)
        parts, names, end = [], [], 0
        for match in _COLUMN.finditer(text):
            name = match[1] if match[1] in known else match[1].strip()
            if name not in known and name[0].isdecimal():
                continue  # LaTeX and format strings are full of numbers in braces
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
                f"The template names no column, so every row would ask the same. Columns: {', '.join(known)}."
            )
        return cls((*parts, text[end:]), tuple(names))

    def fill(self, values: Sequence[str]) -> str:
        """The prompt of one row; a value is put in once and never looked at for braces."""
        pieces = [self.parts[0]]
        for value, part in zip(values, self.parts[1:], strict=True):
            pieces += (value, part)
        return "".join(pieces)

    def rows(
        self, columns: Sequence[Iterable[Any]], is_missing: Callable[[Any], bool]
    ) -> Iterator[str | PromptError | None]:
        """The prompts of all rows; None where a value of the row is missing, an error where one has no text.

        Args:
            columns: The values of each column named, in the order of `columns`.
            is_missing: Tells a missing value.
        """
        for position, values in enumerate(zip(*columns, strict=True)):
            prompt: str | PromptError | None
            try:
                if any(map(is_missing, values)):
                    prompt = None
                else:
                    prompt = self.fill([value if isinstance(value, str) else str(value) for value in values])
            except Exception as error:
                prompt = unreadable(position, error)
            yield prompt


def unreadable(position: int, error: Exception) -> PromptError:
    """What a row fails with whose value cannot be made into text, because the value's own code raises.

    Args:
        position: The row's position, from 0.
        error: What was raised.
    """
    # Also for an exception that has no text itself.
    said = shorten("".join(traceback.format_exception_only(error)).strip(), 100)
    return PromptError(f"Row {position} cannot be made into a prompt: a value in it raises {said}. Mend or remove it.")
