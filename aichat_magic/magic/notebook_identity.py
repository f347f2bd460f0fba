"""Notebook identity: recognises the notebook that a kernel serves by its cells, not by its file name.

CONTRIBUTING has the table of cases.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from ..store.conversations import ConversationStore, KnownNotebook, StoredTurn

MAIN: Final = "main"

_LARGEST_FILE: Final = 200_000_000
# nbformat 4.5, "Cell ids": 1 to 64 of these. VS Code sends URIs, which are valid in one window only.
_CELL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_HEX_ID: Final = re.compile(r"[0-9a-f-]{8,64}")
_LEAST_RANDOM: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLocation:
    """The cell that is running, and the notebook, kernel and process that it runs in.

    Attributes:
        scope: Owner of the conversation `main`, unless this turns out to be a notebook that is known already.
        notebook: Absolute path of the notebook; empty if the front end does not say.
        is_own_path: Whether the path is known to be this kernel's own, and not inherited from a kernel that started it.
        cell_id: The front end's id of the cell; empty if it sends none.
        text: Source of the cell.
        seen: Ids of all cells that this kernel has run.
        kernel: Id of the kernel, which a restart keeps; empty if it has none.
        process: Random id of this process of the kernel.
        is_notebook: Whether cells stay in place and can be run again, unlike in a terminal.
        execution: Running number of this execution of a cell, as the front end counts; 0: unknown.
    """

    scope: str = "here"
    notebook: str = ""
    is_own_path: bool = False
    cell_id: str = ""
    text: str = ""
    seen: frozenset[str] = frozenset()
    kernel: str = ""
    process: str = ""
    is_notebook: bool = False
    execution: int = 0

    @property
    def lasting_cell_id(self) -> str:
        """Return the id of the cell if it outlives the kernel, otherwise an empty string."""
        return self.cell_id if outlives_kernel(self.cell_id) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderConversation:
    """A notebook whose conversation the user may want to continue, but that is not evidently this one.

    Attributes:
        known: The notebook.
        is_copied: Whether its cells are in this notebook and still in their own, too.
    """

    known: KnownNotebook
    is_copied: bool


class Files(Protocol):
    """Access to notebooks on the disk."""

    def exists(self, path: str) -> bool:
        """Tell whether a file exists."""

    def cells(self, path: str) -> Mapping[str, str] | None:
        """Return the sources of its cells by their ids; None if it cannot be read or its format has no ids."""

    def is_same(self, path: str, other: str) -> bool:
        """Tell whether two paths lead to one file."""


class NotebookFiles:
    """Notebooks of the file system; each is read again only when it has changed."""

    def __init__(self) -> None:
        """Start with an empty cache."""
        self._read: dict[str, tuple[tuple[int, int], Mapping[str, str] | None]] = {}

    def exists(self, path: str) -> bool:
        """Tell whether a file exists."""
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return False
        except OSError:  # out of sight, as after a change of permissions
            return True
        return True

    def is_same(self, path: str, other: str) -> bool:
        """Tell whether two paths lead to one file: by a link, or in another case on Windows."""
        try:
            return path == other or os.path.samefile(path, other)
        except (OSError, ValueError):
            return False

    def cells(self, path: str) -> Mapping[str, str] | None:
        """Return the sources of its cells by their ids; None if it cannot be read or its format has no ids."""
        try:
            status = os.stat(path)
            if status.st_size > _LARGEST_FILE:
                return None
            stamp = (status.st_mtime_ns, status.st_size)
            if path not in self._read or self._read[path][0] != stamp:
                self._read[path] = (stamp, _cells_of(json.loads(Path(path).read_text("utf-8"))))
        except (OSError, ValueError, RecursionError):
            return None
        return self._read[path][1]


class NotebookIdentity:
    """The identity of the notebook that this kernel serves: open until cells reveal it or a first turn fixes it."""

    def __init__(
        self, location: Callable[[], CellLocation], store: Callable[[], ConversationStore], files: Files
    ) -> None:
        """Keep the sources of evidence.

        Args:
            location: Returns which cell of which notebook is running.
            store: Returns the store of conversations.
            files: Access to notebooks on the disk.
        """
        self._location = location
        self._store = store
        self._files = files
        self._settled = ""
        self._looked: tuple[int, str] = (0, "")
        self._older: tuple[OlderConversation, ...] = ()

    @property
    def scope(self) -> str:
        """Return the notebook's identity in the store."""
        return self._settled or self._find() or self._location().scope

    @property
    def older(self) -> tuple[OlderConversation, ...]:
        """Return other notebooks that had this path or have cells of this one, newest first."""
        if not self._settled:
            self._find()
        return self._older

    @property
    def cell(self) -> str:
        """Return the lasting id of the running cell, as sent or as found in the file; empty if there is none."""
        location = self._location()
        if location.lasting_cell_id or not location.notebook:
            return location.lasting_cell_id
        found = self._with_this_text()
        return found[0] if len(found) == 1 else ""

    def settle(self) -> None:
        """Fix the identity, because a turn is about to be stored under it."""
        self._settled = self.scope

    def stands_here(self, cell: str) -> bool:
        """Tell whether a cell of this id is in the notebook, as far as can be seen."""
        return cell in self._cells()

    def _find(self) -> str:
        """Look for this notebook among the known ones; return its scope, or an empty string."""
        location = self._location()
        # Once for each execution of a cell: what a cell sends and what it stores must belong to one conversation.
        if not location.notebook or (
            location.execution and self._looked == (location.execution, location.cell_id or location.text)
        ):
            return ""
        self._looked = (location.execution, location.cell_id or location.text)
        cells = self._cells()
        known = self._store().notebooks(cells=tuple(cells), path=location.notebook, kernel=location.kernel)
        evident = [one for one in known if self._is_evident(one, cells)]
        here = [one for one in evident if self._files.is_same(one.path, location.notebook)]
        moved = [one for one in evident if one not in here and not self._has_cells_elsewhere(one)]
        # If a copy and its original have both moved, nobody can tell which of them this is.
        found = here or (moved if len({one.path for one in moved}) == 1 else [])
        if found:
            self._settled = found[0].scope
        copied = {one.scope for one in evident if one not in here}
        # Ids such as `cell-1` and `initial_id` are in many notebooks: at another path, with nothing else in common,
        # they say nothing.
        related = {
            one.scope
            for one in known
            if one.path == location.notebook or any(map(_is_random, one.cells & cells.keys()))
        }
        related |= {one.scope for one in evident}
        self._older = tuple(
            OlderConversation(known=one, is_copied=one.scope in copied)
            for one in known
            if one.scope != self._settled and one.scope in related
        )
        return self._settled

    def _cells(self) -> dict[str, tuple[str, ...]]:
        """Return the sources of this notebook's cells by their ids: of cells that have run, and of those in its file.

        When a notebook is renamed, its kernel still knows the old path, where another notebook may be by now. So the
        file counts only if it contains a cell that has run here.
        """
        location = self._location()
        cells: dict[str, tuple[str, ...]] = {cell: () for cell in location.seen if outlives_kernel(cell)}
        if location.lasting_cell_id:
            cells[location.cell_id] = (location.text,)
        in_file = self._files.cells(location.notebook) or {}
        if any(cell in in_file for cell in cells) or (
            not cells and _is_question(location.text) and self._with_this_text()
        ):
            for cell, source in in_file.items():
                cells[cell] = (*cells.get(cell, ()), source)
        return cells

    def _with_this_text(self) -> list[str]:
        """Return the ids of the cells in the file that have the same text as the running one.

        This serves front ends that send no ids. The path must be this kernel's own: a path inherited from a kernel that
        started this one leads to another notebook, which may contain the same text.
        """
        location = self._location()
        text = location.text.strip()
        if not text or not location.is_own_path:
            return []
        return [cell for cell, source in (self._files.cells(location.notebook) or {}).items() if source.strip() == text]

    def _is_evident(self, known: KnownNotebook, cells: Mapping[str, tuple[str, ...]]) -> bool:
        """Tell whether this is evidently that notebook, or a copy of it."""
        if known.kernel and known.kernel == self._location().kernel:
            return True
        common = known.cells & cells.keys()
        if not common or (known.is_certain and any(map(_is_random, common))):
            return bool(common)
        stored = self._store().load(known.scope, MAIN)
        turns = stored.turns if stored is not None else ()
        by_cell = [(cell_of(turn, known.scope), turn.prompt) for turn in turns]
        if not known.is_certain and not all(cell in cells for cell, _ in by_cell):
            return False
        return any(
            cell in cells and (_is_random(cell) or any(_asks(source, prompt) for source in cells[cell]))
            for cell, prompt in by_cell
        )

    def _has_cells_elsewhere(self, known: KnownNotebook) -> bool:
        """Tell whether a notebook may still be at its path; assume so if the disk is out of sight."""
        if not self._files.exists(self._location().notebook):
            return True
        if not self._files.exists(known.path):
            return False
        cells = self._files.cells(known.path)
        own = set(filter(_is_random, known.cells)) or known.cells  # every notebook of PyCharm has an `initial_id`
        return cells is None or any(cell in own for cell in cells)


def outlives_kernel(cell_id: str) -> bool:
    """Tell whether a front end's cell id is the one in the notebook file, and not one of a window."""
    return bool(_CELL_ID.fullmatch(cell_id))


def cell_of(turn: StoredTurn, scope: str) -> str:
    """Return the id of the cell that made a turn; empty if it is unknown.

    Args:
        turn: The turn.
        scope: The notebook's identity, with which the turn's cell id begins.
    """
    prefix = f"{scope}#"
    return turn.cell_id.removeprefix(prefix).partition("#")[0] if turn.cell_id.startswith(prefix) else ""


def is_inherited(environ: Mapping[str, str]) -> bool | None:
    """Tell whether the session's name is inherited from a kernel that started this one; None if that cannot be seen.

    The Jupyter server passes the name to the kernels that it starts, and has none itself. A kernel that starts another
    kernel has the name and passes it on with the rest of its environment.

    Args:
        environ: The environment of this kernel.
    """
    pid = environ.get("JPY_PARENT_PID", "")
    if os.name == "nt" or not pid.isdecimal():  # on Windows it is a handle
        return None
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        pairs = [b""]
    if pairs != [b""]:
        return b"JPY_SESSION_NAME=" + os.fsencode(environ.get("JPY_SESSION_NAME", "")) in pairs
    try:
        psutil = importlib.import_module("psutil")  # not everywhere, and needed only where there is no /proc
        name = psutil.Process(int(pid)).environ().get("JPY_SESSION_NAME")
    except Exception:  # not installed, not allowed, or the process has ended
        return None
    return bool(name == environ.get("JPY_SESSION_NAME"))


def _cells_of(document: Any) -> Mapping[str, str] | None:
    """Return the sources of a notebook's cells by their ids; None if it is not a notebook or its format has no ids."""
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        return None
    version = document.get("nbformat"), document.get("nbformat_minor")
    if not all(isinstance(part, int) for part in version) or version < (4, 5):
        return None
    cells = {}
    for cell in document["cells"]:
        if isinstance(cell, dict) and isinstance(cell.get("id"), str) and outlives_kernel(cell["id"]):
            source = cell.get("source", "")
            lines = source if isinstance(source, list) else [source]
            cells[cell["id"]] = "".join(line for line in lines if isinstance(line, str))
    return cells


def _is_random(cell_id: str) -> bool:
    """Tell whether a cell id is random, so that no other notebook has it unless the cell was copied.

    nbformat, JupyterLab, VS Code and PyCharm create hexadecimal ids, Colab mixed ones. PyCharm calls the first cell of
    every notebook `initial_id`, and people and programs write `cell-1`.
    """
    digits = cell_id.replace("-", "")
    has_digit, has_letter = any(map(str.isdigit, digits)), any(map(str.isalpha, digits))
    if len(digits) < _LEAST_RANDOM or len(set(digits)) <= _LEAST_RANDOM // 2 - 1 or not (has_digit and has_letter):
        return False
    if _is_sequence(digits):
        return False
    is_mixed = digits != digits.lower() and digits != digits.upper() and "-" not in cell_id and "_" not in cell_id
    # A name such as `importCell1` changes its kind of character seldom.
    kinds = [(c.isdigit(), c.isupper()) for c in digits]
    changes = sum(a != b for a, b in itertools.pairwise(kinds))
    return bool(_HEX_ID.fullmatch(cell_id)) or (is_mixed and changes > _LEAST_RANDOM // 2)


def _is_question(source: str) -> bool:
    """Tell whether a cell asks a model; `import pandas as pd` and `%aichat use MODEL` stand in many notebooks."""
    first, _, body = source.lstrip().partition("\n")
    return (first.startswith("%%aichat") and bool(body.strip())) or "%aichat ask " in source


def _is_sequence(digits: str) -> bool:
    """Tell whether an id counts up or down, as in `a1b2c3d4`: people and language models write such ids everywhere."""
    rows = [ord(c) for c in digits if c.isalpha()], [ord(c) for c in digits if c.isdigit()]
    steps = [abs(b - a) for row in rows for a, b in itertools.pairwise(row)]
    return 4 * sum(step in (1, 5, 9) for step in steps) >= 3 * len(steps)  # 5 and 9: from f to a, from 9 to 0


def _asks(source: str, prompt: str) -> bool:
    """Tell whether a cell asks the prompt of a turn, apart from included data."""
    first, _, body = source.partition("\n")
    body = body.strip()
    if first.lstrip().startswith("%%aichat"):
        return bool(body) and (prompt.strip() == body or prompt.rstrip().endswith(f"\n{body}"))
    return any("%aichat " in line and line.strip().endswith(f" {prompt.strip()}") for line in source.splitlines())
