"""How long after the server's first chunk the first text is on its way to the notebook, and what a whole cell costs.

    python benchmarks/first_text.py
    python benchmarks/first_text.py --cells 100

A real kernel (ipykernel, driven through jupyter_client) in an environment of its own. Cells with `%%aichat` and cells
that read the same stream with plain httpx and print it are run in turn, each with a prompt of its own; the server sends
eight chunks, 20 ms apart. First text: from the server's first chunk to the display message that holds its text, as the
client of the kernel receives it; for plain httpx the same with the first printed text. Overhead: seconds of the whole
cell, from the request to the kernel's reply, beyond those of the plain one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from environments import Environment, PeerError, cache_dir
from peers.rows import prompt_of, reply_to
from report import Report, Table, arguments
from server import serving

GOALS_MS = (10, 15)
CHUNK_S = 0.02
PLAIN = """
import httpx, json
_client = httpx.Client(timeout=60)
def plain(url, prompt):
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": prompt}]}
    with _client.stream("POST", url + "/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                for choice in json.loads(line[6:])["choices"]:
                    print(choice["delta"].get("content") or "", end="", flush=True)
"""


def cell_of(kind: str, url: str, prompt: str) -> str:
    """What is run."""
    if kind == "plain":
        return f"plain({url!r}, {prompt!r})"
    return f"%%aichat -m vllm/m --base-url {url} {kind}\n{prompt}"


class Kernel:
    """A kernel and its client, in this environment."""

    def __init__(self) -> None:
        """Start it."""
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3")

    def run(self, code: str, mark: str = "") -> tuple[float, float]:
        """Run a cell.

        Returns:
            When the first message came that holds `mark` (0: none did), and how many seconds the cell took.
        """
        begin = time.monotonic()
        asked = self.client.execute(code, store_history=False)
        first_at = 0.0
        replied_at = 0.0
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            at = time.monotonic()
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if mark and not first_at and mark in json.dumps(content.get("data", content.get("text", ""))):
                first_at = at
            if kind == "error":
                raise RuntimeError("\n".join(content["traceback"]))
            if kind == "status" and content["execution_state"] == "idle":
                replied_at = at
                break
        self.client.get_shell_msg(timeout=60)
        return first_at, replied_at - begin

    def stop(self) -> None:
        """End it."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def inside(url: str, cells: int) -> dict[str, list[list[Any]]]:
    """In the kernel's environment: run all cells.

    Returns:
        For each kind of cell: prompt, when the first text came, seconds of the cell.
    """
    kernel = Kernel()
    told: dict[str, list[list[Any]]] = {"plain": [], "--no-history": [], "": []}
    try:
        kernel.run(PLAIN)
        kernel.run("%load_ext aichat_magic")
        for number in range(cells + 3):
            for place, kind in enumerate(told):
                prompt = prompt_of(10 * number + place)
                # A conversation that grows would be another measurement.
                options = kind or "--new"
                first_at, seconds = kernel.run(cell_of(options, url, prompt), reply_to(prompt)[:8])
                if number >= 3:  # the first ones import and connect
                    told[kind].append([prompt, first_at, seconds])
    finally:
        kernel.stop()
    return told


def more(parser: argparse.ArgumentParser) -> None:
    """The arguments of this program."""
    parser.add_argument("--venvs", type=Path, default=cache_dir(), metavar="DIR")
    parser.add_argument("--cells", type=int, default=50, help="of each kind")


def main() -> None:
    """Measure, and print the table."""
    options = arguments(__doc__, more)
    environment = Environment("kernel", options.venvs)
    try:
        environment.make()
    except PeerError as error:
        sys.exit(str(error))
    with serving(chunks=8, chunk_s=CHUNK_S) as server:
        said = environment.run(__file__, "inside", server.url, str(options.cells), timeout_s=1200)
        sent_at = server.counts()["first_chunk_at"]
    told: dict[str, list[list[Any]]] = json.loads(said.splitlines()[-1])
    plain_s = [seconds for _, _, seconds in told["plain"]]
    titles = {"plain": "plain httpx, printed", "--no-history": "%%aichat --no-history", "": "%%aichat, kept"}
    table = Table(
        "",
        "first text, ms",
        "95th of 100",
        f"goal, ms: {GOALS_MS[0]}",
        "cell, ms",
        "more than plain, ms",
        f"goal, ms: {GOALS_MS[1]}",
    )
    for kind, title in titles.items():
        assert all(first_at for _, first_at, _ in told[kind]), f"{title}: no text was shown"
        firsts = sorted((first_at - sent_at[prompt]) * 1e3 for prompt, first_at, _ in told[kind])
        over = statistics.median((mine - its) * 1e3 for (_, _, mine), its in zip(told[kind], plain_s, strict=True))
        first = statistics.median(firsts)
        cell = statistics.median(seconds for _, _, seconds in told[kind]) * 1e3
        is_ours = kind != "plain"
        table.add(
            title,
            f"{first:.1f}",
            f"{firsts[int(0.95 * (len(firsts) - 1))]:.1f}",
            ("met" if first <= GOALS_MS[0] else "missed") if is_ours else "",
            f"{cell:.1f}",
            f"{over:.1f}" if is_ours else "",
            ("met" if over <= GOALS_MS[1] else "missed") if is_ours else "",
        )
    report = Report("first_text", "First text: `python benchmarks/first_text.py`")
    report.text(
        f"A real kernel, {options.cells} cells of each kind in turn, eight chunks {CHUNK_S * 1000:.0f} ms apart "
        f"({7 * CHUNK_S * 1000:.0f} ms of stream). First text: from the server's first chunk to the message with it;"
        " medians, and the median difference of neighbours."
    )
    report.table(table)
    report.used(environment.versions())
    report.finish(options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        print("\n" + json.dumps(inside(sys.argv[2], int(sys.argv[3]))))
    else:
        main()
