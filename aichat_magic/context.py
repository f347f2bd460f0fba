"""How a value of the notebook becomes something a model can read: a text inside a budget, or an image.

Types are told by the names of their classes, so that no library is imported that the user has not imported. Of a value
only its `str` or `repr` is called, or the method that its own library draws it with (`savefig`, `_repr_png_`), and of
large values only a small part is looked at.
"""

from __future__ import annotations

import ast
import base64
import collections
import inspect
import io
import itertools
import linecache
import re
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import PromptError, shorten
from .messages import Image

BUDGET_TOKENS = 5_000

# As `estimate_tokens` counts.
_BYTES_PER_TOKEN = 4
_MAX_ROWS = 20
_MAX_COLUMNS = 30
_MAX_LISTED_COLUMNS = 100
_MAX_CELL_CHARS = 100
# 10 million numbers take 15 ms to look through for missing ones, 10 million Python objects 290 ms (measured 2026-12).
_MAX_COUNTED_NUMBERS = 100_000_000
_MAX_COUNTED_OBJECTS = 5_000_000
_CORNER = 8
_WHOLE_ARRAY = 200
_WHOLE_CONTAINER = 1_000
_MAX_DEPTH = 20
_MAX_FRAMES = 5
# Providers make larger pictures smaller by themselves, or refuse them.
_MAX_PIXELS = 1_568

_MAGIC_BYTES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)
_CONTAINERS = (list, tuple, set, frozenset, dict, collections.deque)
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_BRACKETS: dict[Any, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a model gets to see of a value.

    Attributes:
        text: The value as text; for an image, what kind it is.
        images: The value as an image, if it is one.
        cut: Which part of it is shown, such as ``"first 20 of 1,000 rows"``; empty when it is whole.
    """

    text: str
    images: tuple[Image, ...] = ()
    cut: str = ""


def shown(value: Any, *, budget_tokens: int = BUDGET_TOKENS) -> Shown:
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
        return Shown(value)
    try:
        image = image_of(value)
        if image is not None:
            return Shown(str(image), (image,))
        budget = budget_tokens * _BYTES_PER_TOKEN
        text, part = _text(value, budget)
        text, cut = cut_to(text, budget)
        return Shown(text, cut=part or cut)
    except Exception as error:
        problem = f"{type(error).__name__}: {shorten(_message(error), 80)}"
    raise PromptError(
        f"A value of type {type(value).__name__} cannot be shown to a model ({problem}). Convert it first."
    )


def schema_of(value: Any, *, budget_tokens: int = BUDGET_TOKENS) -> Shown | None:
    """Columns, types and missing counts of a DataFrame, without a row of it; None for everything else."""
    sheet = _sheet(value, 0)
    if sheet is None:
        return None
    budget = budget_tokens * _BYTES_PER_TOKEN
    text, part = sheet.schema(budget)
    text, cut = cut_to(text, budget)
    return Shown(text, cut=part or cut)


def cut_to(text: str, budget_bytes: int) -> tuple[str, str]:
    """A text inside a budget, the note that it is cut included.

    Args:
        text: Any text.
        budget_bytes: Most bytes of the result in UTF-8.

    Returns:
        The text, and in words how much of it that is; no words when it is whole.
    """
    if len(text) * 4 <= budget_bytes:
        return text, ""
    data = text[: budget_bytes + 1].encode("utf-8", "surrogatepass")
    if len(data) <= budget_bytes:
        return text, ""
    note = f"\n[cut: the first {{}} of {len(text):,} characters]"
    room = max(0, budget_bytes - len(note) - 12)
    kept = data[:room].decode("utf-8", "ignore")
    return f"{kept}{note.format(f'{len(kept):,}')}"[:budget_bytes], f"first {len(kept):,} of {len(text):,} characters"


def kind_of(value: Any) -> str:
    """What a value is, in a word: ``class``, or the name of its type."""
    if isinstance(value, type):
        return "class"
    return shorten(type(value).__name__, 40)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _is(value: Any, library: str, *names: str) -> bool:
    """Whether a class of `value`, by its name, is one of `names` of a library."""
    return any(
        cls.__name__ in names and str(cls.__module__).partition(".")[0] == library for cls in type(value).__mro__
    )


def _has(value: Any, method: str) -> bool:
    """Whether the type has a method. The value itself is not asked: it may answer to any name."""
    return any(method in vars(cls) for cls in type(value).__mro__)


def _text(value: Any, budget: int) -> tuple[str, str]:
    """A value that is no image as text, and which part of it that is if it is not the whole."""
    if (sheet := _sheet(value, _MAX_ROWS)) is not None:
        return sheet.text(budget)
    if _is(value, "pandas", "Series"):
        return _series(value, budget)
    if _is(value, "pandas", "Index"):
        labels, _ = _Plain(budget // 2).top(list(value[:_WHOLE_ARRAY]))
        cut = _first(_WHOLE_ARRAY, len(value), "labels")
        return f"{kind_of(value)}, {len(value):,} labels, dtype {value.dtype}{_in_words(cut)}\n\n{labels}", cut
    if _is(value, "numpy", "ndarray"):
        return _array(value, budget)
    if isinstance(value, BaseException):
        return traceback_of(value), ""  # what it is stands first, so a cut leaves it
    if isinstance(value, type) or inspect.isroutine(value) or _is(value, "functools", "_lru_cache_wrapper"):
        return source_of(value), ""
    if isinstance(value, (bytes, bytearray)):
        part = bytes(value[:budget])
        return str(part), f"first {budget:,} of {len(value):,} bytes" if len(value) > budget else ""
    if isinstance(value, (*_CONTAINERS, *_VIEWS)) or _is(value, "array", "array"):
        return _container(value, budget)
    return str(value), ""


# Tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """What is shown of a table, whatever library it is from."""

    kind: str
    n_rows: int
    n_columns: int
    columns: Sequence[tuple[str, str, str]]  # name, type, missing
    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def title(self) -> str:
        return f"{self.kind}, {self.n_rows:,} rows x {self.n_columns:,} columns"

    def schema(self, budget: int) -> tuple[str, str]:
        """Title, then a line for each column, as many as fit."""
        table = _markdown(("column", "dtype", "missing"), self.columns, budget - len(self.title) - 60)
        cut = _first(max(0, len(table) - 2), self.n_columns, "columns")
        return "\n".join([self.title, "", *table, *_cut_lines(cut)]), cut

    def text(self, budget: int) -> tuple[str, str]:
        """The schema, then the first rows, as many as fit."""
        schema, cut = self.schema(budget // 2)
        if not self.rows:
            return schema, cut
        lines = _markdown(self.headings, self.rows, budget - len(schema.encode("utf-8", "replace")) - 120)
        rows_cut = _first(max(0, len(lines) - 2), self.n_rows, "rows")
        columns_cut = _first(min(self.n_columns, _MAX_COLUMNS), self.n_columns, "columns")
        notes = _cut_lines(rows_cut, columns_cut)
        return "\n".join([schema, "", *lines, *notes]), ", ".join(filter(None, (rows_cut, columns_cut)))


def _sheet(value: Any, n_rows: int) -> _Sheet | None:
    """The sheet of a DataFrame; None for everything else. Only what is shown is touched."""
    if _is(value, "pandas", "DataFrame"):
        rows, columns = value.shape
        listed = value.iloc[:, :_MAX_LISTED_COLUMNS]
        head = value.iloc[:n_rows, :_MAX_COLUMNS]
        index = [] if _is_plain_index(value.index) else [_label(value.index.name, "index")]
        cells = head.itertuples(index=False, name=None) if columns else [()] * len(head)
        return _Sheet(
            kind=kind_of(value),
            n_rows=rows,
            n_columns=columns,
            columns=[
                (str(name), str(listed.dtypes.iloc[i]), _missing(listed.iloc[:, i], listed.shape[1]))
                for i, name in enumerate(listed.columns)
            ],
            headings=[*index, *map(str, head.columns)],
            rows=[(*([label] if index else ()), *row) for label, row in zip(head.index, cells, strict=True)],
        )
    if _is(value, "polars", "DataFrame"):
        rows, columns = value.shape
        names = value.columns
        return _Sheet(
            kind=kind_of(value),
            n_rows=rows,
            n_columns=columns,
            columns=[
                (name, str(value[name].dtype), f"{value[name].null_count():,}") for name in names[:_MAX_LISTED_COLUMNS]
            ],
            headings=names[:_MAX_COLUMNS],
            rows=value.select(names[:_MAX_COLUMNS]).head(n_rows).rows(),
        )
    return None


def _is_plain_index(index: Any) -> bool:
    return _is(index, "pandas", "RangeIndex") and index.start == 0 and index.step == 1 and index.name is None


def _label(name: Any, default: str) -> str:
    return default if name is None else str(name)


def _missing(series: Any, n_columns: int) -> str:
    """How many values are missing: of all, or of as many as can be looked at in a moment."""
    is_numbers = getattr(series.dtype, "kind", "O") in "biufcmM"
    limit = (_MAX_COUNTED_NUMBERS if is_numbers else _MAX_COUNTED_OBJECTS) // max(1, n_columns)
    looked_at = series.iloc[:limit]
    count = f"{int(looked_at.isna().sum()):,}"
    return count if len(series) <= limit else f"{count} in the first {limit:,} rows"


def _series(value: Any, budget: int) -> tuple[str, str]:
    """A pandas Series: its type, its missing values, its first ones."""
    named = "" if value.name is None else f" {_cell(value.name)!r}"
    missing = _missing(value, 1)
    title = f"{kind_of(value)}{named}, {len(value):,} values, dtype {value.dtype}, missing: {missing}"
    head = value.iloc[:_MAX_ROWS]
    headings = (_label(value.index.name, "index"), _label(value.name, "value"))
    lines = _markdown(headings, list(zip(head.index, head, strict=True)), budget - len(title) - 80)
    cut = _first(max(0, len(lines) - 2), len(value), "values")
    return "\n".join([title, "", *lines, *_cut_lines(cut)]), cut


def _array(value: Any, budget: int) -> tuple[str, str]:
    """A numpy array: whole when it is small, else one corner of it."""
    title = f"{kind_of(value)}, shape {tuple(value.shape)}, dtype {value.dtype}"
    if value.size <= _WHOLE_ARRAY:
        corner, cut = value, ""
    elif value.ndim == 1:
        corner, cut = value[:_WHOLE_ARRAY], _first(_WHOLE_ARRAY, value.size, "values")
    else:
        place = (*(0 for _ in range(value.ndim - 2)), slice(_CORNER), slice(_CORNER))
        corner = value[place]
        written = ", ".join("0" if at == 0 else f":{_CORNER}" for at in place)
        cut = f"corner [{written}] of shape {tuple(value.shape)}"
    is_objects = getattr(value.dtype, "kind", "O") == "O"
    text = _Plain(budget // 2).text(corner.tolist()) if is_objects else str(corner)
    return f"{title}{_in_words(cut)}\n\n{text}", cut


def _first(count: int, total: int, what: str) -> str:
    return f"first {count:,} of {total:,} {what}" if count < total else ""


def _in_words(cut: str) -> str:
    return f"; shown: {'the ' if cut.startswith('first') else ''}{cut}" if cut else ""


def _cut_lines(*cuts: str) -> list[str]:
    """A line below a table that says what of it is shown."""
    told = [f"the {cut}" for cut in cuts if cut]
    return ["", f"({' and '.join(told)} shown)"] if told else []


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[Any]], budget: int) -> list[str]:
    """The lines of a Markdown table: the headings, and as many rows as fit."""
    lines = [_row(headings), "|" + " --- |" * len(headings)]
    left = budget - sum(_size(line) for line in lines)
    for row in rows:
        line = _row(row)
        left -= _size(line)
        if left < 0:
            break
        lines.append(line)
    return lines


def _row(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _size(line: str) -> int:
    return len(line.encode("utf-8", "replace")) + 1


def _cell(value: Any) -> str:
    """One cell: a short text on one line, without the borders of the table."""
    if isinstance(value, float):
        text = f"{value:.10g}"
    elif isinstance(value, str):
        text = value[: _MAX_CELL_CHARS + 1]
    else:
        text = str(value) if type(value) not in _BRACKETS else _Plain(_MAX_CELL_CHARS).text(value)
    text = " ".join(text.splitlines())
    text = text if len(text) <= _MAX_CELL_CHARS else text[: _MAX_CELL_CHARS - 1] + "…"
    return text.replace("\\", "\\\\").replace("|", "\\|") if "|" in text else text


# Containers -------------------------------------------------------------------------------------------------------


def _container(value: Any, budget: int) -> tuple[str, str]:
    """A list, a dict and their like as Python shows them; of a long one the first items and how many more there are."""
    plain = _Plain(max(0, budget - 100))  # the words after the last item need their place, too
    if type(value) in _BRACKETS:
        text, count = plain.top(value)
    elif len(value) <= _WHOLE_CONTAINER:
        return str(value), ""
    else:
        # What has a longer name than its brackets: deque([...]), Counter({...}), dict_keys([...]).
        some = itertools.islice(value.items() if isinstance(value, dict) else value, budget)
        text, count = plain.top(dict(some) if isinstance(value, dict) else list(some), len(value))
        text = f"{type(value).__name__}({text})"
    return text, _first(count, len(value), "items") or ("long values shortened" if plain.is_cut else "")


class _Plain:
    """Writes values as `repr` does, but stops when the budget is used up, however large they are."""

    def __init__(self, budget: int) -> None:
        """Begin with as many characters as the text may have, about."""
        self._left = budget
        self.is_cut = False
        self._above: set[int] = set()

    def top(self, value: Any, total: int = 0) -> tuple[str, int]:
        """The text of a container, and how many of its items are in it. `total`: how many it stands for."""
        if not value:
            return repr(value), 0
        self._above.add(id(value))
        opener, closer = _BRACKETS[type(value)]
        parts: list[str] = []
        for item in value.items() if type(value) is dict else value:
            if self._left <= 0:
                break
            self._left -= 4 if type(value) is dict else 2
            parts.append(": ".join(map(self.text, item)) if type(value) is dict else self.text(item))
        self._above.discard(id(value))
        more = max(total, len(value)) - len(parts)
        self.is_cut = self.is_cut or more > 0
        comma = "," if type(value) is tuple and len(value) == 1 else ""
        end = f", … {more:,} more items" if more else comma
        return f"{opener}{', '.join(parts)}{end}{closer}", len(parts)

    def text(self, value: Any) -> str:
        """Any value inside a container."""
        if type(value) not in _BRACKETS:
            text = self._atom(value)
        elif id(value) in self._above or len(self._above) >= _MAX_DEPTH:
            text, self.is_cut = "...", True
        else:
            return self.top(value)[0]
        self._left -= len(text)
        return text

    def _atom(self, value: Any) -> str:
        if isinstance(value, (str, bytes, bytearray)):
            room = max(self._left, 0)
            if len(value) <= room:
                return repr(value)
            self.is_cut = True
            return f"{value[:room]!r}…"
        if _is_large_data(value):
            return f"<{kind_of(value)} of shape {tuple(value.shape)}>"
        if isinstance(value, _CONTAINERS) and len(value) > _WHOLE_CONTAINER:
            return f"<{kind_of(value)} of {len(value):,} items>"
        return repr(value)


def _is_large_data(value: Any) -> bool:
    """Whether it is better named than shown when it stands inside something else."""
    is_table = _is(value, "pandas", "DataFrame", "Series") or _is(value, "polars", "DataFrame")
    return is_table or (_is(value, "numpy", "ndarray") and value.size > _CORNER)


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


# Images -----------------------------------------------------------------------------------------------------------


def media_type_of(data: bytes) -> str:
    """The media type of an image, told from its first bytes; empty for everything else."""
    return next((kind for pattern, kind in _MAGIC_BYTES if pattern.match(data)), "")


def image_of(value: Any) -> Image | None:
    """A value as an image: a figure, a picture, or the bytes of one; None for everything else."""
    if isinstance(value, (bytes, bytearray)):
        kind = media_type_of(bytes(value[:16]))
        return Image(kind, bytes(value)) if kind else None
    if _is(value, "matplotlib", "Axes", "_AxesBase", "SubFigure"):
        return image_of(value.figure)
    if _has(value, "savefig"):
        return _drawn(value)
    if _is(value, "PIL", "Image"):
        return _picture(value)
    for method in ("_repr_png_", "_repr_jpeg_"):
        if _has(value, method):
            made = getattr(value, method)()
            data = made[0] if isinstance(made, tuple) and made else made
            if isinstance(data, str):
                data = base64.b64decode(data)
            if isinstance(data, bytes) and (kind := media_type_of(data)):
                return Image(kind, data)
    return None


def _drawn(figure: Any) -> Image:
    """A figure of matplotlib, or of a library above it, as PNG."""
    buffer = io.BytesIO()
    inches = figure.get_size_inches() if _has(figure, "get_size_inches") else (6.0, 4.0)
    figure.savefig(buffer, format="png", dpi=min(100.0, _MAX_PIXELS / max(*inches, 1.0)))
    return Image("image/png", buffer.getvalue())


def _picture(picture: Any) -> Image:
    """A picture of Pillow as PNG, made smaller if it is large."""
    buffer = io.BytesIO()
    if max(picture.size) > _MAX_PIXELS:
        picture = picture.copy()
        picture.thumbnail((_MAX_PIXELS, _MAX_PIXELS))
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        picture = picture.convert("RGB")
    picture.save(buffer, format="PNG")
    return Image("image/png", buffer.getvalue())
