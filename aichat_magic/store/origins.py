"""Where turns were made: notebooks, known by their cells and not by their names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The cell that made a turn.

    Attributes:
        scope: The notebook's identity in the store, which is no path.
        path: Where the notebook was then.
        kernel: The id of its kernel that a restart keeps; empty where there is none.
        cell: The cell's id, if it outlives the kernel; otherwise empty.
    """

    scope: str
    path: str
    kernel: str = ""
    cell: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNotebook:
    """A notebook that has made turns.

    Attributes:
        scope: Its identity.
        path: Where it was when it made the last one.
        kernel: The kernel that did, empty where it has no id that a restart keeps.
        cells: The ids of all cells that made turns and outlive the kernel.
        is_certain: Whether all turns are this one notebook's. Release 0.1 told notebooks by their paths, and two may
            have had the same, one after the other.
        updated: When it made the last turn, in seconds since 1970.
    """

    scope: str
    path: str
    kernel: str
    cells: frozenset[str]
    is_certain: bool
    updated: float
