"""Interrupts, crashes and stores: rows 24 to 37."""

from __future__ import annotations

from acceptance.rows import Row

ROWS: tuple[Row, ...] = ()
