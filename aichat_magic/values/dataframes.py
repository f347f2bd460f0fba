"""DataFrames, Series and arrays as compact text: their shape, types, missing values, and first rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .truncate import BRACKETS, BoundedRepr, cut_lines, first_of, in_words
from .types import is_instance_of, type_name

MAX_ROWS = 20
_MAX_COLUMNS = 30
_MAX_LISTED_COLUMNS = 100
_MAX_CELL_CHARS = 100
# To find the missing values of 10 million numbers takes 15 ms, of 10 million Python objects 290 ms (measured 2026-12).
_MAX_COUNTED_NUMBERS = 100_000_000
_MAX_COUNTED_OBJECTS = 5_000_000
_CORNER = 8
_WHOLE_ARRAY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TableText:
    """The part of a DataFrame that is shown, whatever library it is from.

    Attributes:
        type_name: Name of its type.
        n_rows: Number of all rows.
        n_columns: Number of all columns.
        columns: Name, type and number of missing values of the first columns.
        headings: Headings of the cells in `rows`.
        rows: The first cells of the first rows.
    """

    type_name: str
    n_rows: int
    n_columns: int
    columns: Sequence[tuple[str, str, str]]
    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def title(self) -> str:
        """Return its type and its size."""
        return f"{self.type_name}, {self.n_rows:,} rows x {self.n_columns:,} columns"

    def schema(self, budget: int) -> tuple[str, str]:
        """Return the title and a line for each column, as many as fit, and which part of the columns that is."""
        table = _markdown(("column", "dtype", "missing"), self.columns, budget - len(self.title) - 60)
        cut = first_of(max(0, len(table) - 2), self.n_columns, "columns")
        return "\n".join([self.title, "", *table, *cut_lines(cut)]), cut

    def text(self, budget: int) -> tuple[str, str]:
        """Return the schema and the first rows, as many as fit, and which part of the table that is."""
        schema, cut = self.schema(budget // 2)
        if not self.rows:
            return schema, cut
        lines = _markdown(self.headings, self.rows, budget - len(schema.encode("utf-8", "replace")) - 120)
        rows_cut = first_of(max(0, len(lines) - 2), self.n_rows, "rows")
        columns_cut = first_of(min(self.n_columns, _MAX_COLUMNS), self.n_columns, "columns")
        notes = cut_lines(rows_cut, columns_cut)
        return "\n".join([schema, "", *lines, *notes]), ", ".join(filter(None, (rows_cut, columns_cut)))


def table_text_of(value: Any, n_rows: int) -> TableText | None:
    """Read the first part of a DataFrame; return None for everything else. Only cells that are shown are read."""
    if is_instance_of(value, "pandas", "DataFrame"):
        rows, columns = value.shape
        listed = value.iloc[:, :_MAX_LISTED_COLUMNS]
        head = value.iloc[:n_rows, :_MAX_COLUMNS]
        index = [] if _is_plain_index(value.index) else [_label(value.index.name, "index")]
        cells = head.itertuples(index=False, name=None) if columns else [()] * len(head)
        return TableText(
            type_name=type_name(value),
            n_rows=rows,
            n_columns=columns,
            columns=[
                (str(name), str(listed.dtypes.iloc[i]), _missing(listed.iloc[:, i], listed.shape[1]))
                for i, name in enumerate(listed.columns)
            ],
            headings=[*index, *map(str, head.columns)],
            rows=[(*([label] if index else ()), *row) for label, row in zip(head.index, cells, strict=True)],
        )
    if is_instance_of(value, "polars", "DataFrame"):
        rows, columns = value.shape
        names = value.columns
        return TableText(
            type_name=type_name(value),
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
    return is_instance_of(index, "pandas", "RangeIndex") and index.start == 0 and index.step == 1 and index.name is None


def _label(name: Any, default: str) -> str:
    return default if name is None else str(name)


def _missing(series: Any, n_columns: int) -> str:
    """Count missing values: in all, or in as many as can be checked in a moment."""
    is_numbers = getattr(series.dtype, "kind", "O") in "biufcmM"
    limit = (_MAX_COUNTED_NUMBERS if is_numbers else _MAX_COUNTED_OBJECTS) // max(1, n_columns)
    head = series.iloc[:limit]
    count = f"{int(head.isna().sum()):,}"
    return count if len(series) <= limit else f"{count} in the first {limit:,} rows"


def series_text(value: Any, budget: int) -> tuple[str, str]:
    """Describe a pandas Series: its type, its number of missing values, its first values."""
    named = "" if value.name is None else f" {_cell(value.name)!r}"
    missing = _missing(value, 1)
    title = f"{type_name(value)}{named}, {len(value):,} values, dtype {value.dtype}, missing: {missing}"
    head = value.iloc[:MAX_ROWS]
    headings = (_label(value.index.name, "index"), _label(value.name, "value"))
    lines = _markdown(headings, list(zip(head.index, head, strict=True)), budget - len(title) - 80)
    cut = first_of(max(0, len(lines) - 2), len(value), "values")
    return "\n".join([title, "", *lines, *cut_lines(cut)]), cut


def index_text(value: Any, budget: int) -> tuple[str, str]:
    """Describe a pandas Index: its type and its first labels."""
    labels, _ = BoundedRepr(budget // 2).container(list(value[:_WHOLE_ARRAY]))
    cut = first_of(_WHOLE_ARRAY, len(value), "labels")
    return f"{type_name(value)}, {len(value):,} labels, dtype {value.dtype}{in_words(cut)}\n\n{labels}", cut


def array_text(value: Any, budget: int) -> tuple[str, str]:
    """Describe a numpy array: whole when it is small, else one corner of it."""
    title = f"{type_name(value)}, shape {tuple(value.shape)}, dtype {value.dtype}"
    if value.size <= _WHOLE_ARRAY:
        corner, cut = value, ""
    elif value.ndim == 1:
        corner, cut = value[:_WHOLE_ARRAY], first_of(_WHOLE_ARRAY, value.size, "values")
    else:
        place = (*(0 for _ in range(value.ndim - 2)), slice(_CORNER), slice(_CORNER))
        corner = value[place]
        written = ", ".join("0" if at == 0 else f":{_CORNER}" for at in place)
        cut = f"corner [{written}] of shape {tuple(value.shape)}"
    is_objects = getattr(value.dtype, "kind", "O") == "O"
    text = BoundedRepr(budget // 2).text(corner.tolist()) if is_objects else str(corner)
    return f"{title}{in_words(cut)}\n\n{text}", cut


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[Any]], budget: int) -> list[str]:
    """Return the lines of a Markdown table: the headings, and as many rows as fit."""
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
    """Format a cell as a short text on one line, with bars escaped."""
    if isinstance(value, float):
        text = f"{value:.10g}"
    elif isinstance(value, str):
        text = value[: _MAX_CELL_CHARS + 1]
    else:
        text = str(value) if type(value) not in BRACKETS else BoundedRepr(_MAX_CELL_CHARS).text(value)
    text = " ".join(text.splitlines())
    text = text if len(text) <= _MAX_CELL_CHARS else text[: _MAX_CELL_CHARS - 1] + "…"
    return text.replace("\\", "\\\\").replace("|", "\\|") if "|" in text else text
