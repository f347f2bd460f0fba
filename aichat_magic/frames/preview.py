"""View of a preview: prompts and replies side by side, at a length that pandas would truncate."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..text.widgets import Table
from ..text.words import shorten

_SHOWN = ("prompt", "reply", "error", "input_tokens", "output_tokens", "elapsed_s")
_PROMPT_CHARS = 160
_MAX_ROWS = 20
_MAX_LINES = 16


class Preview(pd.DataFrame):  # type: ignore[misc]  # pandas is not typed here
    """A DataFrame that differs only in its view; frames derived from it are plain DataFrames."""

    @property
    def _constructor(self) -> Any:
        """Return the class of derived frames."""
        return pd.DataFrame

    def __repr__(self) -> str:
        """Return aligned text, with whole replies up to 16 lines."""
        return str(self._table()) if self._is_whole() else super().__repr__()

    def _repr_html_(self) -> str:
        """Return the same as HTML."""
        html: str = self._table()._repr_mimebundle_()["text/html"] if self._is_whole() else super()._repr_html_()
        return html

    def _is_whole(self) -> bool:
        """Tell whether no column was removed."""
        return set(_SHOWN) <= set(self.columns)

    def _table(self) -> Table:
        """Return the first rows as a table."""
        rows = []
        for label, row in zip(self.index[:_MAX_ROWS], self[:_MAX_ROWS].to_dict("records"), strict=True):
            tokens = [row["input_tokens"], row["output_tokens"]]
            rows.append(
                (
                    str(label),
                    "" if pd.isna(row["prompt"]) else shorten(row["prompt"], _PROMPT_CHARS),
                    next((text for text in (row["reply"], row["error"]) if not pd.isna(text)), ""),
                    "" if pd.isna(tokens).any() else "{:,} + {:,}".format(*tokens),
                    "" if pd.isna(row["elapsed_s"]) else f"{row['elapsed_s']:.1f}",
                )
            )
        note = f"The first {_MAX_ROWS} of {len(self):,} rows." if len(self) > _MAX_ROWS else ""
        return Table("", ("", "prompt", "reply", "tokens", "s"), tuple(rows), note, max_lines=_MAX_LINES)
