"""What a model needs to know of an exception: the cell that raised it, where, and the values that the cell names."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ...core.errors import PromptError
from ...text.words import shorten
from ...values.describe import shown
from ...values.types import type_name

# A cell of ours, raw or as IPython keeps it: what it asked is no code to explain.
_OURS = re.compile(r"\s*(%%?aichat\b|get_ipython\(\)\.run_(cell|line)_magic\('aichat')")
# Names whose values are nobody's business. `tokens` and `keys` are mostly harmless, but who can tell.
_SECRET = re.compile(r"key|token|secret|passw|pwd|credential|auth(?!or)|cookie", re.IGNORECASE)
_MAGIC_LINE = re.compile(r"^([ \t]*)(?:[\w., ]+=[ \t]*)?[%!].*$", re.MULTILINE)
_LIBRARIES = tuple(
    path.replace("\\", "/") + "/" for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)  # fmt: skip
_MAX_FRAMES = 6
_MAX_CHAIN = 3
_MAX_MESSAGE = 2_000
_VALUE_TOKENS = 300
_ALL_TOKENS = 2_000
_MAX_VALUES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """An exception, told to somebody who was not there.

    Attributes:
        cell: Source of the cell that raised it.
        traceback: The exception, its causes, and the places in the user's own code.
        values: The variables that the cell names, a block for each.
    """

    cell: str
    traceback: str
    values: str


def last_error_of(
    error: BaseException,
    cells: Sequence[str],
    variables: Mapping[str, Any],
    *,
    number_of: Callable[[str], int | None],
) -> LastError:
    """Gather what there is to know of an exception.

    Args:
        error: The exception.
        cells: Sources of the cells by their numbers, as IPython's ``In``, without the one that is running.
        variables: The notebook's variables.
        number_of: The number of the cell that was compiled under a file name; None when it is no cell.

    Returns:
        The failure. Values whose names say that they are secret are left out.
    """
    cell = _cell_of(error, cells, number_of)
    return LastError(cell=cell, traceback=_told(error, number_of), values=_values(cell, variables))


def previous_cell(cells: Sequence[str]) -> str:
    """The last cell that is not one of ours; empty when there is none.

    Args:
        cells: Sources of the cells in order, without the one that is running.
    """
    return next((cell for cell in reversed(cells) if cell.strip() and not _OURS.match(cell)), "")


def names_in(source: str) -> tuple[str, ...]:
    """The names that a cell uses, in order; none when it is no Python."""
    # A magic or a shell line is no Python; what is around it still is.
    source = "" if source.startswith("%%") else _MAGIC_LINE.sub(r"\1pass", source)
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    nodes.sort(key=lambda node: (node.lineno, node.col_offset))
    return tuple(dict.fromkeys(node.id for node in nodes))


# The cell -----------------------------------------------------------------------------------------------------------


def _cell_of(error: BaseException, cells: Sequence[str], number_of: Callable[[str], int | None]) -> str:
    """The source of the cell that was running; where the traceback names none, the last one."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    for file in files:
        number = number_of(file)
        if number is None:
            continue
        if 0 < number < len(cells) and cells[number].strip():
            return cells[number]
        if source := "".join(linecache.getlines(file)).rstrip("\n"):
            return source
    return previous_cell(cells)


# The traceback ------------------------------------------------------------------------------------------------------


def _told(error: BaseException, number_of: Callable[[str], int | None]) -> str:
    """The exception and what it came from, the first cause last, as far as the user's own code is concerned."""
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(parts) < _MAX_CHAIN:
        seen.add(id(link))
        lead = "Caused by:\n" if parts else ""
        parts.append(lead + "\n".join([*_places(link, number_of), _headline(link, number_of)]))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n\n".join(parts)


def _places(error: BaseException, number_of: Callable[[str], int | None]) -> Iterator[str]:
    """The frames in cells and in the user's files, innermost last, and where in a library it ended."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    # What is before the cell is what runs cells.
    first = next((n for n, (code, _) in enumerate(frames) if number_of(code.co_filename)), 0)
    frames = frames[first:]
    own = [(code, line) for code, line in frames if number_of(code.co_filename) or not _is_library(code.co_filename)]
    if len(own) > _MAX_FRAMES:
        yield f"({len(own) - _MAX_FRAMES} outer calls left out)"
    for code, line in own[-_MAX_FRAMES:]:
        inside = "" if code.co_name == "<module>" else f", in {code.co_name}"
        yield f"{_place(code.co_filename, number_of)}, line {line}{inside}:"
        yield f"    {linecache.getline(code.co_filename, line).strip()}"
    if own and frames[-1] not in own:
        code, _ = frames[-1]
        yield f"(raised inside {_place(code.co_filename, number_of)}, in {code.co_name})"


def _is_library(file: str) -> bool:
    """Whether a file is none of the user's: of Python, of an installed package, or of no file at all."""
    file = file.replace("\\", "/")
    return file.startswith(("<", *_LIBRARIES)) or "/site-packages/" in file or "/dist-packages/" in file


def _place(file: str, number_of: Callable[[str], int | None]) -> str:
    """A file without the directories of this machine."""
    if number := number_of(file):
        return f"In[{number}]"
    _, library, inside = file.replace("\\", "/").rpartition("-packages/")
    return inside if library else inside.rpartition("/")[2]


def _headline(error: BaseException, number_of: Callable[[str], int | None]) -> str:
    """Kind and message, the line that Python could not read, notes, and the members of a group."""
    try:
        lines = traceback.format_exception_only(error)
    except Exception:
        lines = [type(error).__name__]
    if isinstance(error, SyntaxError) and error.filename:
        lines = [line.replace(f'File "{error.filename}"', _place(error.filename, number_of)) for line in lines]
    text = "".join(lines).rstrip("\n")
    if isinstance(error, BaseExceptionGroup):
        text = "\n".join([text, *(f"- {type(one).__name__}: {shorten(str(one))}" for one in error.exceptions[:5])])
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}\n[cut: the first {_MAX_MESSAGE:,} characters]"


# The values ---------------------------------------------------------------------------------------------------------


def _values(cell: str, variables: Mapping[str, Any]) -> str:
    """The variables that a cell names, each short, all within a budget."""
    parts: list[str] = []
    left = _ALL_TOKENS
    for name in names_in(cell):
        if name not in variables or name.startswith("_") or len(parts) >= _MAX_VALUES:
            continue
        value = variables[name]
        if isinstance(value, ModuleType) or _is_elsewhere(value):
            continue
        if _SECRET.search(name):
            parts.append(f"{name} ({type_name(value)}): not shown")
            continue
        if left <= 0:
            parts.append(f"{name} ({type_name(value)})")
            continue
        text = _short(value, min(left, _VALUE_TOKENS))
        left -= len(text) // 4
        parts.append(f"{name} ({type_name(value)}):\n{text}")
    return "\n\n".join(parts) or "(none)"


def _is_elsewhere(value: Any) -> bool:
    """Whether it is a function or class of a library: the model knows these, or their source would not help."""
    is_code = isinstance(value, type) or inspect.isroutine(value)
    return is_code and getattr(value, "__module__", "") != "__main__"


def _short(value: Any, budget_tokens: int) -> str:
    """A value inside a budget, without what a name in it says is secret."""
    if type(value) is dict:
        value = _without_secrets(value)
    if isinstance(value, str):
        limit = budget_tokens * 4
        return (
            repr(value)
            if len(value) <= limit
            else f"{value[:limit]!r} (the first {limit:,} of {len(value):,} characters)"
        )
    try:
        return shown(value, budget_tokens=budget_tokens).text
    except PromptError as error:
        return f"({error})"


def _without_secrets(value: dict[Any, Any], depth: int = 0) -> dict[Any, Any]:
    """A dict of settings without its keys and passwords."""
    if len(value) > 1_000:
        return value
    return {
        key: "not shown"
        if isinstance(key, str) and _SECRET.search(key)
        else _without_secrets(inner, depth + 1)
        if type(inner) is dict and depth < 4
        else inner
        for key, inner in value.items()
    }
