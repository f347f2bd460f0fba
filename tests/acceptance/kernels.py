"""The bridge and the front ends: rows 53 to 68."""

from __future__ import annotations

from acceptance.rows import Row

ROWS: tuple[Row, ...] = ()
