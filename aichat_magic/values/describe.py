"""How a value of the notebook becomes something a model can read: a text inside a budget, or an image.

Types are told by the names of their classes, so that no library is imported that the user has not imported. Of a value
only its `str` or `repr` is called, or the method that its own library draws it with (`savefig`, `_repr_png_`), and of
large values only a small part is looked at.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import traceback
from dataclasses import dataclass
from typing import Any

from ..core.errors import PromptError
from ..core.messages import Image
from ..text.words import shorten
from .dataframes import MAX_ROWS, array_text, index_text, series_text, table_text_of
from .images import image_of
from .kinds import is_of, kind_of
from .truncate import CONTAINERS, VIEWS, container_text, cut_to

BUDGET_TOKENS = 5_000

# As `estimate_tokens` counts.
_BYTES_PER_TOKEN = 4
_MAX_FRAMES = 5


@dataclass(frozen=True, slots=True)
class ValueText:
    """What a model gets to see of a value.

    Attributes:
        text: The value as text; for an image, what kind it is.
        images: The value as an image, if it is one.
        cut: Which part of it is shown, such as ``"first 20 of 1,000 rows"``; empty when it is whole.
    """

    text: str
    images: tuple[Image, ...] = ()
    cut: str = ""


def shown(value: Any, *, budget_tokens: int = BUDGET_TOKENS) -> ValueText:
    """A value as a model reads it best. A text stays as it is, whatever its length.

    Args:
        value: Any Python value.
        budget_tokens: Most tokens of the result, as `estimate_tokens` counts them, >= 1. What is cut says so.

    Returns:
        The text, and the image if the value is one.

    Raises:
        PromptError: The value's own `str`, `repr` or drawing fails.
    """
    if isinstance(value, str):
        return ValueText(value)
    try:
        image = image_of(value)
        if image is not None:
            return ValueText(str(image), (image,))
        budget = budget_tokens * _BYTES_PER_TOKEN
        text, part = _text(value, budget)
        text, cut = cut_to(text, budget)
        return ValueText(text, cut=part or cut)
    except Exception as error:
        problem = f"{type(error).__name__}: {shorten(_message(error), 80)}"
    raise PromptError(
        f"A value of type {type(value).__name__} cannot be shown to a model ({problem}). Convert it first."
    )


def schema_of(value: Any, *, budget_tokens: int = BUDGET_TOKENS) -> ValueText | None:
    """Columns, types and missing counts of a DataFrame, without a row of it; None for everything else."""
    sheet = table_text_of(value, 0)
    if sheet is None:
        return None
    budget = budget_tokens * _BYTES_PER_TOKEN
    text, part = sheet.schema(budget)
    text, cut = cut_to(text, budget)
    return ValueText(text, cut=part or cut)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _text(value: Any, budget: int) -> tuple[str, str]:
    """A value that is no image as text, and which part of it that is if it is not the whole."""
    if (sheet := table_text_of(value, MAX_ROWS)) is not None:
        return sheet.text(budget)
    if is_of(value, "pandas", "Series"):
        return series_text(value, budget)
    if is_of(value, "pandas", "Index"):
        return index_text(value, budget)
    if is_of(value, "numpy", "ndarray"):
        return array_text(value, budget)
    if isinstance(value, BaseException):
        return traceback_of(value), ""  # what it is stands first, so a cut leaves it
    if isinstance(value, type) or inspect.isroutine(value) or is_of(value, "functools", "_lru_cache_wrapper"):
        return source_of(value), ""
    if isinstance(value, (bytes, bytearray)):
        part = bytes(value[:budget])
        return str(part), f"first {budget:,} of {len(value):,} bytes" if len(value) > budget else ""
    if isinstance(value, (*CONTAINERS, *VIEWS)) or is_of(value, "array", "array"):
        return container_text(value, budget)
    return str(value), ""


# Code and errors --------------------------------------------------------------------------------------------------


def source_of(value: Any) -> str:
    """The source of a function or a class; where there is none, its signature and its docstring."""
    try:
        return inspect.getsource(value).rstrip("\n")
    except (OSError, TypeError, IndexError, SyntaxError):
        pass
    if isinstance(value, type) and (found := _class_in_cell(value)):
        return found
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", kind_of(value))
    try:
        signature = str(inspect.signature(value))
    except (ValueError, TypeError):
        signature = "(...)"
    doc = inspect.getdoc(value)
    head = f"{'class' if isinstance(value, type) else 'def'} {name}{signature}"
    return f"{head}\n\n{doc}" if doc else head


def _class_in_cell(cls: type) -> str:
    """The source of a class that was written in a cell: `inspect` looks for the file of its module, and there is none.

    Its functions know where they were written.
    """
    for member in vars(cls).values():
        code = getattr(member, "__code__", None) if inspect.isfunction(member) else None
        if code is None:
            continue
        lines = linecache.getlines(code.co_filename)
        try:
            tree = ast.parse("".join(lines))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                end = node.end_lineno or node.lineno
                if node.lineno <= code.co_firstlineno <= end:
                    begin = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                    return "".join(lines[begin - 1 : end]).rstrip("\n")
    return ""


def traceback_of(error: BaseException, *, max_frames: int = _MAX_FRAMES) -> str:
    """An exception in a few lines: what it is, where it was raised, what caused it.

    Places are named by file, without the directories of this machine.

    Args:
        error: The exception.
        max_frames: Most places shown of each exception; the innermost are.

    Returns:
        Its text.
    """
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) < 3:
        seen.add(id(link))
        told = traceback.TracebackException(type(link), link, link.__traceback__, compact=True)
        lines = "".join(told.format_exception_only()).rstrip("\n").splitlines()
        frames = [frame for frame in told.stack if not _is_machinery(frame.filename)]
        head = [f"{'Caused by: ' if parts else ''}{line}" if not at else line for at, line in enumerate(lines)]
        places = [
            f"  in {frame.name}, {_place(frame.filename)}, line {frame.lineno}"
            + (f":\n    {frame.line}" if frame.line else "")
            for frame in frames[-max_frames:]
        ]
        more = [f"  ({len(frames) - max_frames} outer calls left out)"] if len(frames) > max_frames else []
        parts.append("\n".join([*head, *more, *places]))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n".join(parts)


def _is_machinery(filename: str) -> bool:
    """Whether a file is part of what runs the cells."""
    return "/IPython/core/" in filename.replace("\\", "/") or "/ipykernel/" in filename.replace("\\", "/")


def _place(filename: str) -> str:
    """A file without the directories of this machine: inside a library, or its last name."""
    path = filename.replace("\\", "/")
    if "/ipykernel_" in path or path.startswith("<ipython-input"):
        return "cell"
    library = path.rpartition("/site-packages/")
    return library[2] if library[1] else path.rpartition("/")[2]
