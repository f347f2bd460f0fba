"""Front ends that name no cell, by their own programs: qtconsole, jupyter-console, and what runs notebooks.

::

    with Kernel() as kernel, QtConsole(kernel) as console:
        page = console.run("%aichat ask long")     # all text of its window
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pexpect
from effort import PATIENCE_S
from kernels import Kernel, clean_environment
from servers import Answer, ChatServer, Received, chunks, cut, event_stream, status, text

LINES = [f"line {number} of a **reply** that is shown\n" for number in range(6)]
REPLY = "".join(LINES).strip()
THOUGHT = "Hm, the user counts"


def answer(received: Received, attempt: int) -> Answer:
    """What the last word of a prompt asks for."""
    word = received.last_message.split()[-1]
    if word == "long":
        return chunks([*LINES[:-1], LINES[-1].strip()], delay_s=0.02)
    if word == "endless":
        return chunks([f"word{number} " for number in range(4000)], delay_s=0.02)
    if word == "think":
        deltas = [{"reasoning_content": THOUGHT}, {"reasoning_content": "."}, {"content": "Fo"}, {"content": "ur."}]
        events: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        return event_stream([*(f"data: {json.dumps(event)}\n\n" for event in events), "data: [DONE]\n\n"], delay_s=0.02)
    if word == "busy" and attempt == 1:
        return status(503, headers={"retry-after": "2"})
    if word == "break":
        return cut(abrupt=True)
    return text(f"echo: {received.last_message}")


def cells(server: ChatServer) -> list[str]:
    """Cells that load the extension and choose the server."""
    return ["%load_ext aichat_magic", "%aichat use vllm/test-model", f"%config AIChat.base_url = '{server.url}'"]


class QtConsole:
    """A window of qtconsole on a kernel that runs; a context manager."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __enter__(self) -> Self:
        program = Path(__file__).with_name("qt_console.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(self._kernel.home / "kernel.json"), str(self._kernel.process.pid)],
            env=clean_environment(self._kernel.home, {"QT_QPA_PLATFORM": "offscreen"}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.page = ""
        self.run("1 + 1")
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._process.communicate(timeout=PATIENCE_S)
        finally:
            self._process.kill()

    def run(self, code: str, *, interrupt: str = "") -> str:
        """Run a cell, and return what the window shows of it. It is interrupted once it shows a text."""
        before = self.page
        self.page = self._step(run=code, interrupt=interrupt)
        return self.page[len(before) :]

    def picture(self, path: Path) -> None:
        """Save the window as a PNG."""
        self._step(picture=str(path))

    def _step(self, **step: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(step) + "\n")
        self._process.stdin.flush()
        page = self._process.stdout.readline()
        if not page:
            raise RuntimeError(self._process.communicate(timeout=PATIENCE_S)[1])
        return str(json.loads(page))


class JupyterConsole:
    """jupyter-console under a pseudo-terminal, on a kernel that runs; a context manager."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __enter__(self) -> Self:
        self._terminal = pexpect.spawn(
            sys.executable,
            ["-m", "jupyter_console", "--simple-prompt", "--existing", str(self._kernel.home / "kernel.json")],
            env=clean_environment(self._kernel.home, {"TERM": "xterm"}),
            cwd=str(self._kernel.home),
            timeout=PATIENCE_S,
            encoding="utf-8",
            echo=False,
            dimensions=(50, 200),
        )
        self._terminal.expect(r"In \[\d+\]: ")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._terminal.close(force=True)

    def run(self, line: str, *, interrupt: str = "") -> str:
        """Run a line, and return what the terminal shows of it. It is interrupted once it shows a text."""
        self._terminal.sendline(line)
        shown = ""
        if interrupt:
            self._terminal.expect_exact(interrupt)
            shown = str(self._terminal.before) + interrupt
            self._kernel.interrupt()
        self._terminal.expect(r"In \[\d+\]: ")
        return (shown + str(self._terminal.before)).replace("\r\n", "\n")


def ran_notebook(tool: str, folder: Path, sources: list[str]) -> list[list[dict[str, Any]]]:
    """Run a notebook with one of the programs that do so, and return the outputs of its cells."""
    import nbformat

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "in.ipynb")
    code = "import nbclient, nbformat as f; b = f.read('in.ipynb', 4); nbclient.execute(b); f.write(b, 'out.ipynb')"
    command = {
        "nbclient": ["-c", code],
        "papermill": ["-m", "papermill", "in.ipynb", "out.ipynb", "--no-progress-bar"],
        "jupyter execute": ["-c", "from nbclient.cli import main; main()", "in.ipynb", "--output=out.ipynb"],
        "nbconvert --execute": ["-m", "nbconvert", "--execute", "--to=notebook", "--output=out", "in.ipynb"],
    }[tool]
    done = subprocess.run(
        [sys.executable, *command],
        env=clean_environment(folder, {"JUPYTER_PATH": f"{sys.prefix}/share/jupyter"}),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    book = nbformat.read(folder / "out.ipynb", 4)
    return [[dict(output) for output in cell.outputs] for cell in book.cells if cell.source in sources]
