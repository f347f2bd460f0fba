"""Simulated notebooks: files on a simulated disk, and kernels that run their cells with the echo provider.

::

    disk = Disk()
    disk.save("/a.ipynb", {"1f0e3dad": "%%aichat\nq1"})
    kernel = Kernel(store, disk, "/a.ipynb")
    assert kernel.run("1f0e3dad", "q1") == ["q1"]
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping

from aichat_magic.chat.chat import Chat
from aichat_magic.core.messages import Reply
from aichat_magic.core.settings import Settings
from aichat_magic.magic.notebook_identity import CellLocation
from aichat_magic.magic.session import Session
from aichat_magic.store.conversations import ConversationStore

_NUMBERS = itertools.count(1)


class View:
    """A view that shows nothing and records the notes."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def note(self, line: str) -> None:
        self.notes.append(line)

    def status(self, text: str, done: int = 0, total: int = 0) -> None: ...

    def think(self, thinking_so_far: str) -> None: ...

    def update(self, text_so_far: str) -> None: ...

    def finish(self, reply: Reply | None, *, note: str = "") -> None: ...


class Disk:
    """Notebooks by their paths; None: one whose cells have no ids."""

    def __init__(self) -> None:
        self.notebooks: dict[str, dict[str, str] | None] = {}

    def save(self, path: str, cells: Mapping[str, str] | None) -> None:
        self.notebooks[path] = None if cells is None else dict(cells)

    def rename(self, path: str, to: str) -> None:
        self.notebooks[to] = self.notebooks.pop(path)

    def copy(self, path: str, to: str) -> None:
        self.save(to, self.notebooks[path])

    def delete(self, path: str) -> None:
        del self.notebooks[path]

    def exists(self, path: str) -> bool:
        return path in self.notebooks

    def is_same(self, path: str, other: str) -> bool:
        return path == other

    def cells(self, path: str) -> Mapping[str, str] | None:
        return self.notebooks.get(path)


class Kernel:
    """The kernel of a notebook, from its start to its end."""

    def __init__(
        self,
        store: ConversationStore,
        disk: Disk,
        path: str = "/a.ipynb",
        *,
        id_of_kernel: str = "",
        has_cell_ids: bool = True,
        is_own_path: bool = True,
        is_saved: bool = True,
    ) -> None:
        """Start the kernel; with `is_saved` each cell is in the file when it is run, as after a save."""
        self.path = path
        self.notes: list[str] = []
        self.execution = 0
        self.cell_id = ""
        self.disk = disk
        self._text = ""
        self._seen: set[str] = set()
        self._process = f"process{next(_NUMBERS)}"
        self._kernel = id_of_kernel or str(uuid.uuid4())
        self._has_cell_ids = has_cell_ids
        self._is_own_path = is_own_path
        self._is_saved = is_saved
        self.chat = Chat(settings=lambda: Settings(model="echo/echo"))
        self.session = Session(
            self.chat,
            {},
            view=lambda is_streamed: View(self.notes),
            shown=lambda reply: None,
            location=self.location,
            store=lambda: store,
            files=disk,
        )

    def location(self) -> CellLocation:
        return CellLocation(
            scope=f"notebook#{self._process}" if self.path else f"kernel:{self._kernel}",
            notebook=self.path,
            is_own_path=self._is_own_path,
            cell_id=self.cell_id,
            text=self._text,
            seen=frozenset(self._seen),
            kernel=self._kernel,
            process=self._process,
            is_notebook=True,
            execution=self.execution,
        )

    @property
    def scope(self) -> str:
        """Return the notebook's identity in the store."""
        return self.session._history.key("main")[0]

    def see(self, cell_id: str, text: str) -> None:
        """Let a cell begin to run."""
        self.cell_id = cell_id if self._has_cell_ids else ""
        self._text = text
        if self.cell_id:
            self._seen.add(self.cell_id)
        if self._is_saved and self.path and cell_id:
            cells = self.disk.notebooks.setdefault(self.path, {})
            if cells is not None:
                cells[cell_id] = text

    def run(self, cell_id: str, prompt: str, line: str = "") -> list[str]:
        """Run a cell; return the prompts and replies that were sent."""
        self.see(cell_id, f"%%aichat {line}\n{prompt}")
        reply = self.session.cell(line, prompt)
        assert isinstance(reply, Reply)
        return [message.content for message in reply.messages]

    def command(self, line: str, cell_id: str = "") -> None:
        """Run a line."""
        self.see(cell_id or self.cell_id, f"%aichat {line}")
        self.session.command(line)
