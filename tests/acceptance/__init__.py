"""Faults, attacks and situations, and the tests that show what happens then.

Each row names its tests, and the defences: functions, methods and constants of the package, each with what stands there
once it is taken out. `python tests/defences.py` takes them out one by one and wants the row's tests to fail.
"""

from __future__ import annotations

from acceptance import (
    addresses,
    descriptors,
    frames,
    front_ends,
    kernels,
    limits,
    limits_in_runs,
    local_models,
    looks,
    network,
    notebooks,
    outages,
    profiles,
    replies,
    schemas,
    secrets,
    stores,
    thinking,
    typing_lines,
    usage,
    wire,
)
from acceptance.rows import Removal, Row

ROWS: tuple[Row, ...] = (
    *network.ROWS,
    *stores.ROWS,
    *secrets.ROWS,
    *kernels.ROWS,
    *local_models.ROWS,
    *descriptors.ROWS,
    *notebooks.ROWS,
    *outages.ROWS,
    *profiles.ROWS,
    *replies.ROWS,
    *schemas.ROWS,
    *typing_lines.ROWS,
    *usage.ROWS,
    *wire.ROWS,
    *limits.ROWS,
    *limits_in_runs.ROWS,
    *addresses.ROWS,
    *thinking.ROWS,
    *front_ends.ROWS,
    *looks.ROWS,
    *frames.ROWS,
)

__all__ = ["ROWS", "Removal", "Row"]
