"""What a long conversation costs: the memory of small cells, and the time of one cell after 5,000 turns.

    python benchmarks/conversations.py

Cells of `%%aichat` on the echo provider, run by IPython's own shell, in a process of its own for each line of the
tables, with all replies kept, as a notebook keeps them in `Out`. CPU of a cell is the median of 20; the first cell,
which reads all turns from the file, is a column of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from peers.rows import now_bytes
from report import Report, Table, arguments

CELLS = (375, 750, 1_500)
TURNS = (0, 1_000, 5_000)
BUDGETS = (16_000, 10_000_000)
ROUNDS = 20


class Shell:
    """IPython's shell with the extension."""

    def __init__(self) -> None:
        """Load it."""
        from IPython.core.interactiveshell import InteractiveShell

        warnings.simplefilter("ignore")  # IPython's, about the size of `Out`
        self._shell: Any = InteractiveShell.instance()
        self._shell.displayhook.cache_size = 100_000
        self._shell.run_line_magic("load_ext", "aichat_magic")

    def cell(self, prompt: str, flags: str = "") -> float:
        """Run a cell; the seconds of CPU."""
        begin_s = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            result = self._shell.run_cell(f"%%aichat {flags}\n{prompt}\n", store_history=True)
        assert result.success
        return time.process_time() - begin_s


def grown(cells: int) -> dict[str, float]:
    """The memory that so many cells take."""
    shell = Shell()
    shell.cell("Warm up?")
    before = now_bytes()
    seconds = [shell.cell(f"Cell {number}?") for number in range(cells)]
    return {
        "mb": (now_bytes() - before) / 1e6,
        "first_ms": 1e3 * statistics.median(seconds[:ROUNDS]),
        "last_ms": 1e3 * statistics.median(seconds[-ROUNDS:]),
    }


def after(turns: int) -> dict[str, float]:
    """The time of a cell after so many turns."""
    from aichat_magic.core.messages import Reply
    from aichat_magic.store.conversations import SqliteConversations, TurnRecord

    store = SqliteConversations(Path(os.environ["AICHAT_CONVERSATIONS"]))
    reply = Reply(text="Some words of a reply. " * 5, model="echo/echo")
    store.append_all("", "long", [TurnRecord(prompt=f"Turn {number}?", reply=reply) for number in range(turns)])
    store.close()
    shell = Shell()
    shell.cell("Warm up?", "-c other")
    first_s = shell.cell("First?", "-c long")
    return {
        "first_ms": 1e3 * first_s,
        "next_ms": 1e3 * statistics.median(shell.cell("Next?", "-c long") for _ in range(ROUNDS)),
    }


def in_a_process(what: str, count: int, budget: int = 10_000_000) -> dict[str, float]:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, what, str(count)],
            env={
                **os.environ,
                "AICHAT_CONVERSATIONS": f"{folder}/conversations.sqlite3",
                "AICHAT_MAX_HISTORY_TOKENS": str(budget),
                "AICHAT_MODEL": "echo/echo",
                "IPYTHONDIR": folder,
            },
            capture_output=True,
            text=True,
            check=True,
        )
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """Measure, and print the tables."""
    options = arguments(__doc__)
    memory = Table("cells", "growth, MB", "KB a cell", "CPU ms, first cells", "CPU ms, last cells")
    for cells in CELLS:
        told = in_a_process("grown", cells)
        memory.add(
            f"{cells:,}", f"{told['mb']:.1f}", f"{1e3 * told['mb'] / cells:.1f}", f"{told['first_ms']:.1f}",
            f"{told['last_ms']:.1f}",
        )  # fmt: skip
    times = Table("turns before", "tokens sent at most", "CPU ms, first cell", "CPU ms, next cells")
    for turns in TURNS:
        for budget in BUDGETS:
            told = in_a_process("after", turns, budget)
            times.add(f"{turns:,}", f"{budget:,}", f"{told['first_ms']:.0f}", f"{told['next_ms']:.1f}")
    report = Report("conversations", "Long conversations: `python benchmarks/conversations.py`")
    report.text(
        "Goal: memory linear in the cells and below 20 MB for 1,500; 5,000 turns cost a cell at most 20 ms more. Every "
        "small cell sends all cells before it."
    )
    report.table(memory)
    report.text("After turns of an earlier kernel; with 10,000,000 tokens all of them are sent.")
    report.table(times)
    report.finish(options)


if __name__ == "__main__":
    if sys.argv[1:2] in (["grown"], ["after"]):
        print(json.dumps({"grown": grown, "after": after}[sys.argv[1]](int(sys.argv[2]))))
    else:
        main()
