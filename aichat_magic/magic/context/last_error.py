"""The last exception, described for a model: the cell that raised it, the traceback, and the variables of the cell."""

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

# An `%aichat` cell, as written or as IPython stores it: its prompt is not code to explain.
_AICHAT_CELL = re.compile(r"\s*(%%?aichat\b|get_ipython\(\)\.run_(cell|line)_magic\('aichat')")
# Variables whose values are never sent. Those named `tokens` or `keys` are mostly harmless, but one cannot be sure.
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
    """An exception with its context, as text.

    Attributes:
        cell: Source of the cell that raised it.
        traceback: The exception, its causes, and the frames in the user's own code.
        values: The variables that the cell uses, a block for each.
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
    """Describe an exception.

    Args:
        error: The exception.
        cells: Sources of all cells before the running one; their index is their number, as in IPython's ``In``.
        variables: The notebook's variables.
        number_of: Returns the number of the cell that was compiled under a file name; None if it is not a cell.

    Returns:
        The description. Values whose names say that they are secret are left out.
    """
    cell = _cell_of(error, cells, number_of)
    return LastError(cell=cell, traceback=_described(error, number_of), values=_values(cell, variables))


def previous_cell(cells: Sequence[str]) -> str:
    """Return the last cell that is not an `%aichat` cell; empty if there is none.

    Args:
        cells: Sources of all cells before the running one, in order.
    """
    return next((cell for cell in reversed(cells) if cell.strip() and not _AICHAT_CELL.match(cell)), "")


def names_in(source: str) -> tuple[str, ...]:
    """Return the names that a cell uses, in order; none if it is not Python."""
    # Lines with magics or shell commands are not Python, but the code around them is.
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
    """Return the source of the cell that raised an exception; if the traceback names none, of the last cell."""
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


def _described(error: BaseException, number_of: Callable[[str], int | None]) -> str:
    """Return the text of an exception and its causes, the first cause last, with frames of the user's code only."""
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(parts) < _MAX_CHAIN:
        seen.add(id(link))
        lead = "Caused by:\n" if parts else ""
        parts.append(lead + "\n".join([*_frames(link, number_of), _headline(link, number_of)]))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n\n".join(parts)


def _frames(error: BaseException, number_of: Callable[[str], int | None]) -> Iterator[str]:
    """Yield the frames in cells and in the user's files, innermost last, and where in a library the exception arose."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    # The frames before that of the cell are those that run cells.
    first = next((n for n, (code, _) in enumerate(frames) if number_of(code.co_filename)), 0)
    frames = frames[first:]
    own = [(code, line) for code, line in frames if number_of(code.co_filename) or not _is_library(code.co_filename)]
    if len(own) > _MAX_FRAMES:
        yield f"({len(own) - _MAX_FRAMES} outer calls left out)"
    for code, line in own[-_MAX_FRAMES:]:
        inside = "" if code.co_name == "<module>" else f", in {code.co_name}"
        yield f"{_file_name(code.co_filename, number_of)}, line {line}{inside}:"
        yield f"    {linecache.getline(code.co_filename, line).strip()}"
    if own and frames[-1] not in own:
        code, _ = frames[-1]
        yield f"(raised inside {_file_name(code.co_filename, number_of)}, in {code.co_name})"


def _is_library(file: str) -> bool:
    """Tell whether code is not the user's: it is part of Python or of an installed package, or has no file."""
    file = file.replace("\\", "/")
    return file.startswith(("<", *_LIBRARIES)) or "/site-packages/" in file or "/dist-packages/" in file


def _file_name(file: str, number_of: Callable[[str], int | None]) -> str:
    """Return a file name without directories of this machine."""
    if number := number_of(file):
        return f"In[{number}]"
    _, library, inside = file.replace("\\", "/").rpartition("-packages/")
    return inside if library else inside.rpartition("/")[2]


def _headline(error: BaseException, number_of: Callable[[str], int | None]) -> str:
    """Return type and message, the line of a syntax error, notes, and the members of an exception group."""
    try:
        lines = traceback.format_exception_only(error)
    except Exception:
        lines = [type(error).__name__]
    if isinstance(error, SyntaxError) and error.filename:
        lines = [line.replace(f'File "{error.filename}"', _file_name(error.filename, number_of)) for line in lines]
    text = "".join(lines).rstrip("\n")
    if isinstance(error, BaseExceptionGroup):
        text = "\n".join([text, *(f"- {type(one).__name__}: {shorten(str(one))}" for one in error.exceptions[:5])])
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}\n[cut: the first {_MAX_MESSAGE:,} characters]"


# The values ---------------------------------------------------------------------------------------------------------


def _values(cell: str, variables: Mapping[str, Any]) -> str:
    """Return the variables that a cell uses, each shortened, all within a budget."""
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
    """Tell whether a value is a function or class of a library: models know these, or their source would not help."""
    is_code = isinstance(value, type) or inspect.isroutine(value)
    return is_code and getattr(value, "__module__", "") != "__main__"


def _short(value: Any, budget_tokens: int) -> str:
    """Return a value as text within a budget, without entries whose names say that they are secret."""
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
    """Return a dict without the values of keys and passwords."""
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
