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

    def after(self, origin: Origin, now_s: float) -> KnownNotebook:
        """Return the notebook as it is once it has made one turn more."""
        cells = self.cells | {origin.cell} if origin.cell else self.cells
        return KnownNotebook(
            scope=self.scope, path=origin.path, kernel=origin.kernel, cells=cells, is_certain=True, updated=now_s
        )

    def is_told_by(self, cells: frozenset[str], path: str, kernel: str) -> bool:
        """Return whether it has one of the cells, was last at the path, or last ran in the kernel; empty: not asked."""
        return bool(self.cells & cells) or bool(path and self.path == path) or bool(kernel and self.kernel == kernel)


def first_known(origin: Origin) -> KnownNotebook:
    """Return a notebook that has made no turn yet."""
    return KnownNotebook(
        scope=origin.scope, path=origin.path, kernel=origin.kernel, cells=frozenset(), is_certain=True, updated=0.0
    )
