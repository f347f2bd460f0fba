"""Secrets and hostile content: rows 38 to 52."""

from __future__ import annotations

from acceptance.rows import Row

ROWS: tuple[Row, ...] = ()
