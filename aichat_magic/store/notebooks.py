"""The notebooks in which turns were made, known by their cells and not by their names."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from .rows import from_blob, is_time, to_blob

_MAX_VALUES: Final = 500  # of one statement; SQLite takes 999 or more


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The cell in which a turn was made.

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
    """A notebook in which turns were made.

    Attributes:
        scope: Its identity.
        path: Where it was when the last one was made.
        kernel: The kernel that made it, empty where the kernel has no id that a restart keeps.
        cells: The ids of all cells that made turns and outlive the kernel.
        is_certain: Whether all turns are of this one notebook. Release 0.1 told notebooks apart by their paths, and two
            may have had the same path, one after the other.
        updated: When the last turn was made, in seconds since 1970.
    """

    scope: str
    path: str
    kernel: str
    cells: frozenset[str]
    is_certain: bool
    updated: float


def record_origin(connection: sqlite3.Connection, origin: Origin, now_s: float) -> None:
    """Record that a turn was made in a cell of a notebook."""
    scope = to_blob(origin.scope)
    connection.execute(
        "INSERT OR REPLACE INTO notebooks (scope, path, kernel, is_certain, updated_s) VALUES (?, ?, ?, 1, ?)",
        (scope, to_blob(origin.path), to_blob(origin.kernel), max(0.0, now_s)),
    )
    if origin.cell:
        connection.execute("INSERT OR IGNORE INTO cells (cell, scope) VALUES (?, ?)", (to_blob(origin.cell), scope))


def forget_notebook(connection: sqlite3.Connection, scope: str) -> None:
    """Remove a notebook and its cells, if it is known."""
    connection.execute("DELETE FROM notebooks WHERE scope = ?", (to_blob(scope),))
    connection.execute("DELETE FROM cells WHERE scope = ?", (to_blob(scope),))


def find_notebooks(
    connection: sqlite3.Connection, cells: frozenset[str], path: str, kernel: str
) -> list[KnownNotebook]:
    """Return the notebooks that have one of the cells, were last at the path or last ran in the kernel.

    Args:
        connection: The database.
        cells: Ids of cells.
        path: Path of a notebook; empty: not looked for.
        kernel: Id of a kernel; empty: not looked for.
    """
    sql = "SELECT scope FROM notebooks WHERE (path = ?1 AND ?1 <> x'') OR (kernel = ?2 AND ?2 <> x'')"
    found: dict[Any, None] = dict.fromkeys(connection.execute(sql, (to_blob(path), to_blob(kernel))))
    wanted = [to_blob(cell) for cell in sorted(cells)]
    for start in range(0, len(wanted), _MAX_VALUES):
        some = wanted[start : start + _MAX_VALUES]
        sql = f"SELECT DISTINCT scope FROM cells WHERE cell IN ({', '.join('?' * len(some))})"
        found |= dict.fromkeys(connection.execute(sql, some))
    scopes = [scope for (value,) in found if (scope := from_blob(value)) is not None]
    return [known for scope in scopes if (known := _notebook(connection, scope)) is not None]


def _notebook(connection: sqlite3.Connection, scope: str) -> KnownNotebook | None:
    """Return the notebook of a scope; None where there is none."""
    sql = "SELECT path, kernel, is_certain, updated_s FROM notebooks WHERE scope = ?"
    row = connection.execute(sql, (to_blob(scope),)).fetchone()
    if row is None:
        return None
    path, kernel, is_certain, updated_s = from_blob(row[0]), from_blob(row[1]), row[2], row[3]
    if path is None or kernel is None or not is_time(updated_s):
        return None
    rows = connection.execute("SELECT cell FROM cells WHERE scope = ?", (to_blob(scope),)).fetchall()
    return KnownNotebook(
        scope=scope,
        path=path,
        kernel=kernel,
        cells=frozenset(cell for (value,) in rows if (cell := from_blob(value))),
        is_certain=is_certain == 1,
        updated=updated_s,
    )
