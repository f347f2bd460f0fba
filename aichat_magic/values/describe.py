"""Descriptions of Python values for a model: a text inside a budget, or an image.

Types are recognized by class name, so that no library is imported that the user has not imported. Only `str` or `repr`
of a value is called, or the method with which its own library draws it (`savefig`, `_repr_png_`), and only a small part
of a large value is read.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import traceback
from dataclasses import dataclass
from typing import Any

from ..core.errors import PromptError
from ..core.messages import BYTES_PER_TOKEN, Image, Reply
from ..text.words import shorten
from .dataframes import MAX_ROWS, array_text, index_text, series_text, table_text_of
from .images import image_of
from .truncate import CONTAINERS, VIEWS, container_text, cut_to
from .types import is_instance_of, type_name

BUDGET_TOKENS = 5_000

_MAX_FRAMES = 5
_MAX_REPLIES = 20


@dataclass(frozen=True, slots=True)
class ValueText:
    """A value as it is shown to a model.

    Attributes:
        text: The value as text; for an image, its type and size.
        images: The value as an image, if it is one.
        cut: The part of it that is shown, such as ``"first 20 of 1,000 rows"``; empty when it is whole.
    """

    text: str
    images: tuple[Image, ...] = ()
    cut: str = ""


def shown(value: Any, *, budget_tokens: int = BUDGET_TOKENS) -> ValueText:
    """Convert a value to what a model reads best. A text stays as it is, whatever its length.

    Args:
        value: Any Python value.
        budget_tokens: Maximum size of the result, in tokens as `estimate_tokens` counts them, >= 1. The text notes a
            cut.

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
        budget = budget_tokens * BYTES_PER_TOKEN
        text, part = _text(value, budget)
        text, cut = cut_to(text, budget)
        return ValueText(text, cut=part or cut)
    except Exception as error:
        problem = f"{type(error).__name__}: {shorten(_message(error), 80)}"
    raise PromptError(
        f"A value of type {type(value).__name__} cannot be shown to a model ({problem}). Convert it first."
    )


def schema_of(value: Any, *, budget_tokens: int = BUDGET_TOKENS) -> ValueText | None:
    """Describe the columns, types and missing values of a DataFrame, without its rows; None for everything else."""
    table = table_text_of(value, 0)
    if table is None:
        return None
    budget = budget_tokens * BYTES_PER_TOKEN
    text, part = table.schema(budget)
    text, cut = cut_to(text, budget)
    return ValueText(text, cut=part or cut)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _text(value: Any, budget: int) -> tuple[str, str]:
    """Return a value that is no image as text, and which part of it that is; empty for the whole."""
    if (table := table_text_of(value, MAX_ROWS)) is not None:
        return table.text(budget)
    if is_instance_of(value, "pandas", "Series"):
        return series_text(value, budget)
    if is_instance_of(value, "pandas", "Index"):
        return index_text(value, budget)
    if is_instance_of(value, "numpy", "ndarray"):
        return array_text(value, budget)
    if isinstance(value, BaseException):
        return traceback_of(value), ""  # type and message stand first, so a cut keeps them
    if isinstance(value, type) or inspect.isroutine(value) or is_instance_of(value, "functools", "_lru_cache_wrapper"):
        return source_of(value), ""
    if isinstance(value, (bytes, bytearray)):
        part = bytes(value[:budget])
        return str(part), f"first {budget:,} of {len(value):,} bytes" if len(value) > budget else ""
    if type(value) is list and any(isinstance(one, Reply) for one in value[:_MAX_REPLIES]):
        return _replies_text(value[:_MAX_REPLIES]), _first(_MAX_REPLIES, len(value))
    if isinstance(value, (*CONTAINERS, *VIEWS)) or is_instance_of(value, "array", "array"):
        return container_text(value, budget)
    return str(value), ""


def _first(n_shown: int, n_all: int) -> str:
    """Return which part of a list is shown; empty for the whole."""
    return f"first {n_shown} of {n_all:,} replies" if n_all > n_shown else ""


def _replies_text(values: list[Any]) -> str:
    """Return the replies of several models, as a cell assigns them: there is None for one that has failed."""
    parts = [
        f"{number}. {one.model}\n\n{one.text}" if isinstance(one, Reply) else f"{number}. {one}"
        for number, one in enumerate(values, start=1)
    ]
    return "\n\n".join(parts)


# Code and errors --------------------------------------------------------------------------------------------------


def source_of(value: Any) -> str:
    """Return the source of a function or a class; where there is none, its signature and its docstring."""
    try:
        return inspect.getsource(value).rstrip("\n")
    except (OSError, TypeError, IndexError, SyntaxError):
        pass
    if isinstance(value, type) and (found := _class_in_cell(value)):
        return found
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", type_name(value))
    try:
        signature = str(inspect.signature(value))
    except (ValueError, TypeError):
        signature = "(...)"
    doc = inspect.getdoc(value)
    head = f"{'class' if isinstance(value, type) else 'def'} {name}{signature}"
    return f"{head}\n\n{doc}" if doc else head


def _class_in_cell(cls: type) -> str:
    """Find the source of a class that was written in a cell, through the code of its functions.

    `inspect` fails, because it looks for the file of the module.
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
    """Describe an exception in a few lines: its type and message, where it was raised, what caused it.

    Places are named by file, without the directories of this machine.

    Args:
        error: The exception.
        max_frames: Maximum number of places shown for each exception, the innermost.

    Returns:
        The description.
    """
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) < 3:
        seen.add(id(link))
        summary = traceback.TracebackException(type(link), link, link.__traceback__, compact=True)
        lines = "".join(summary.format_exception_only()).rstrip("\n").splitlines()
        frames = [frame for frame in summary.stack if not _is_machinery(frame.filename)]
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
    """Tell whether a file belongs to IPython or ipykernel, which run the cells."""
    return "/IPython/core/" in filename.replace("\\", "/") or "/ipykernel/" in filename.replace("\\", "/")


def _place(filename: str) -> str:
    """Return the name of a file without the directories of this machine: its path in a library, or its last part."""
    path = filename.replace("\\", "/")
    if "/ipykernel_" in path or path.startswith("<ipython-input"):
        return "cell"
    library = path.rpartition("/site-packages/")
    return library[2] if library[1] else path.rpartition("/")[2]
