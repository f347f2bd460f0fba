"""The network: rows 1 to 23."""

from __future__ import annotations

from acceptance.rows import Row

ROWS: tuple[Row, ...] = ()
