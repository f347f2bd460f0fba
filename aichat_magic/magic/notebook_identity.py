"""Which notebook a kernel serves: told by cells and not by names. CONTRIBUTING has the table of the cases."""

from __future__ import annotations

import importlib
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
# nbformat 4.5, "Cell ids": 1 to 64 of these. VS Code sends URIs, which name a place in a window.
_CELL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_HEX_ID: Final = re.compile(r"[0-9a-f-]{8,64}")
_LEAST_RANDOM: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLocation:
    """Where a cell runs.

    Attributes:
        scope: Whose conversation `main` is, as long as nothing shows that this is a notebook that is known already.
        notebook: Absolute path of the notebook, where the front end tells it.
        is_own_path: Whether the path is known to be this kernel's, and not that of a kernel which started it.
        cell_id: The front end's name for the cell, where it tells it.
        text: The source of the cell.
        seen: The names of all cells that this kernel has run.
        kernel: The id of the kernel that a restart keeps, empty where it has none.
        process: What tells this process of the kernel from every other.
        is_notebook: Whether cells can be run again in their place.
        execution: Which execution of a cell this is, as the front end counts; 0: it does not tell.
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
        """The name of the cell if it outlives the kernel, otherwise empty."""
        return self.cell_id if outlives_kernel(self.cell_id) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderConversation:
    """A notebook whose conversation may be wanted, and is not taken up.

    Attributes:
        known: The notebook.
        is_copied: Whether this notebook has its cells, and it still has them, too.
    """

    known: KnownNotebook
    is_copied: bool


class Files(Protocol):
    """The notebooks on the disk."""

    def exists(self, path: str) -> bool:
        """Return whether there is a file."""

    def cells(self, path: str) -> Mapping[str, str] | None:
        """Return the sources of its cells by their ids; None where it cannot be read or its format has no ids."""


class NotebookFiles:
    """Notebooks on the disk; one that has not changed is not read again."""

    def __init__(self) -> None:
        """Begin without knowing any."""
        self._read: dict[str, tuple[tuple[int, int], Mapping[str, str] | None]] = {}

    def exists(self, path: str) -> bool:
        """Return whether there is a file."""
        return os.path.exists(path)

    def cells(self, path: str) -> Mapping[str, str] | None:
        """Return the sources of its cells by their ids; None where it cannot be read or its format has no ids."""
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
    """The notebook that this kernel serves: nobody, until cells show that it is known or a turn is made."""

    def __init__(self, place: Callable[[], CellLocation], store: Callable[[], ConversationStore], files: Files) -> None:
        """Take what tells it.

        Args:
            place: Tells which cell of which notebook is running.
            store: Gives the conversations.
            files: The notebooks on the disk.
        """
        self._place = place
        self._store = store
        self._files = files
        self._settled = ""
        self._looked: tuple[int, str] = (0, "")
        self._older: tuple[OlderConversation, ...] = ()

    @property
    def scope(self) -> str:
        """The notebook's identity in the store."""
        return self._settled or self._looked_up() or self._place().scope

    @property
    def older(self) -> tuple[OlderConversation, ...]:
        """Other notebooks that were here, or whose cells are here, the newest first."""
        if not self._settled:
            self._looked_up()
        return self._older

    @property
    def cell(self) -> str:
        """The id of the running cell that outlives the kernel, sent or found in the file; empty for none."""
        place = self._place()
        if place.lasting_cell_id or not place.notebook:
            return place.lasting_cell_id
        found = self._with_this_text()
        return found[0] if len(found) == 1 else ""

    def settle(self) -> None:
        """Stay what it is from now on, because a turn is made."""
        self._settled = self.scope

    def stands_here(self, cell: str) -> bool:
        """Return whether a cell of this id is in the notebook, as far as can be seen."""
        return cell in self._cells()

    def _looked_up(self) -> str:
        """Look for this notebook among those that are known; its scope, empty for none."""
        place = self._place()
        # Once for each execution of a cell: what it has sent and what it stores are one conversation's.
        if not place.notebook or (place.execution and self._looked == (place.execution, place.cell_id)):
            return ""
        self._looked = (place.execution, place.cell_id)
        cells = self._cells()
        known = self._store().notebooks(cells=tuple(cells), path=place.notebook, kernel=place.kernel)
        evident = [one for one in known if self._is_evident(one, cells)]
        here = [one for one in evident if one.path == place.notebook]
        moved = [one for one in evident if one.path != place.notebook and not self._has_cells_elsewhere(one)]
        # Two notebooks that both left their paths, a copy and its original: which is this one?
        found = here or (moved if len({one.path for one in moved}) == 1 else [])
        if found:
            self._settled = found[0].scope
        copied = {one.scope for one in evident if one.path != place.notebook}
        self._older = tuple(
            OlderConversation(known=one, is_copied=one.scope in copied) for one in known if one.scope != self._settled
        )
        return self._settled

    def _cells(self) -> dict[str, tuple[str, ...]]:
        """The sources of this notebook's cells by their ids: of those that have run, and of those in its file.

        The kernel of a notebook that was renamed knows the old path only, where another notebook may stand by now: the
        file counts once a cell that has run here stands in it.
        """
        place = self._place()
        cells: dict[str, tuple[str, ...]] = {cell: () for cell in place.seen if outlives_kernel(cell)}
        if place.lasting_cell_id:
            cells[place.cell_id] = (place.text,)
        in_file = self._files.cells(place.notebook) or {}
        if any(cell in in_file for cell in cells) or (not cells and self._with_this_text()):
            for cell, source in in_file.items():
                cells[cell] = (*cells.get(cell, ()), source)
        return cells

    def _with_this_text(self) -> list[str]:
        """The ids of the cells of the file that have the text of the running one.

        That is how a front end which sends no ids is told. The path must be this kernel's own: the one of a kernel that
        started this one leads to another notebook, which may well hold the same.
        """
        place = self._place()
        text = place.text.strip()
        if not text or not place.is_own_path:
            return []
        return [cell for cell, source in (self._files.cells(place.notebook) or {}).items() if source.strip() == text]

    def _is_evident(self, known: KnownNotebook, cells: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether this is that notebook, or a copy of it."""
        if known.kernel and known.kernel == self._place().kernel:
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
        """Whether a notebook may still be where it was; it is where nobody can see."""
        if not self._files.exists(self._place().notebook):
            return True
        if not self._files.exists(known.path):
            return False
        cells = self._files.cells(known.path)
        return cells is None or any(cell in known.cells for cell in cells)


def outlives_kernel(cell_id: str) -> bool:
    """Return whether a front end's name for a cell is one that stands in the notebook, and not one of a window."""
    return bool(_CELL_ID.fullmatch(cell_id))


def cell_of(turn: StoredTurn, scope: str) -> str:
    """Return the id of the cell that made a turn, empty where it is not known.

    Args:
        turn: The turn.
        scope: The notebook's identity, with which the turn's name for the cell begins.
    """
    prefix = f"{scope}#"
    return turn.cell_id.removeprefix(prefix).partition("#")[0] if turn.cell_id.startswith(prefix) else ""


def is_inherited(environ: Mapping[str, str]) -> bool | None:
    """Return whether a session's name is that of a kernel which started this one; None where that cannot be seen.

    The server gives the name to the kernel that it starts and has none itself. A kernel that starts another one has it,
    and hands it on with everything else.

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
    except Exception:  # whatever keeps us from seeing: not installed, not allowed, gone
        return None
    return bool(name == environ.get("JPY_SESSION_NAME"))


def _cells_of(document: Any) -> Mapping[str, str] | None:
    """The sources of the cells of a notebook by their ids; None where it is none, or one without ids."""
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
    """Whether no other notebook has a cell of this id, unless it was copied.

    nbformat, JupyterLab, VS Code and PyCharm make hexadecimal ones, Colab others. PyCharm calls the first cell of every
    notebook `initial_id`, and people and programs write `cell-1`.
    """
    digits = cell_id.replace("-", "")
    has_digit, has_letter = any(map(str.isdigit, digits)), any(map(str.isalpha, digits))
    if len(digits) < _LEAST_RANDOM or len(set(digits)) <= _LEAST_RANDOM // 2 - 1 or not (has_digit and has_letter):
        return False
    is_mixed = digits != digits.lower() and digits != digits.upper() and "-" not in cell_id and "_" not in cell_id
    return bool(_HEX_ID.fullmatch(cell_id)) or is_mixed


def _asks(source: str, prompt: str) -> bool:
    """Whether a cell asks what a turn did, but for what was included."""
    first, _, body = source.partition("\n")
    body = body.strip()
    if first.lstrip().startswith("%%aichat"):
        return bool(body) and (prompt.strip() == body or prompt.rstrip().endswith(f"\n{body}"))
    return any("%aichat " in line and line.strip().endswith(f" {prompt.strip()}") for line in source.splitlines())
