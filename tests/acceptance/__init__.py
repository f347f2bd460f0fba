"""Faults, attacks and situations, and the tests that show what happens then.

Each row names its tests, and the defences: functions, methods and constants of the package, each with what stands there
once it is taken out. `python tests/defences.py` takes them out one by one and wants the row's tests to fail.
"""

from __future__ import annotations

from acceptance import (
    descriptors,
    kernels,
    looks,
    network,
    notebooks,
    outages,
    replies,
    schemas,
    secrets,
    stores,
    thinking,
    wire,
)
from acceptance.rows import Removal, Row

ROWS: tuple[Row, ...] = (
    *network.ROWS,
    *stores.ROWS,
    *secrets.ROWS,
    *kernels.ROWS,
    *descriptors.ROWS,
    *notebooks.ROWS,
    *outages.ROWS,
    *replies.ROWS,
    *schemas.ROWS,
    *wire.ROWS,
    *thinking.ROWS,
    *looks.ROWS,
)

__all__ = ["ROWS", "Removal", "Row"]
