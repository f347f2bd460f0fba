"""Synchronous calls, and the magic, in real kernels and other front ends."""

from __future__ import annotations

import importlib.metadata
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from effort import PATIENCE_S
from kernels import Kernel, Outcome, clean_environment
from needs import needs
from servers import Answer, ChatServer, Received, drip, hang, raw

pytestmark = pytest.mark.kernel

HAS_SUBSHELLS = int(importlib.metadata.version("ipykernel").split(".")[0]) >= 7

DONE = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")

# What a cell of these tests can use: a request over a bare connection, many of them, and a stream.
TOOLS = """
import asyncio, gc, os, signal, sys, time
from aichat_magic.core.sync import iterate, run_sync as run

async def request(port, path="/"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET " + path.encode() + b" HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n")
        return await reader.read()
    finally:
        writer.close()

async def lines(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
        async for line in reader:
            yield line
    finally:
        writer.close()

async def consume(port, into):
    source = lines(port)
    try:
        async for line in source:
            into.append(line)
    finally:
        await source.aclose()

async def many(port, number, done):
    async def one():
        done.append(await request(port))
    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(one())

def tasks():
    "Tasks of ours that are not done, in any loop; the kernel's own come and go."
    gc.collect()
    found = [o for o in gc.get_objects() if isinstance(o, asyncio.Task) and not o.done()]
    return sum(type(task.get_loop()).__module__.startswith("aichat_magic") for task in found)

async def stubborn(seconds):
    end = time.monotonic() + seconds
    print("go", flush=True)
    while time.monotonic() < end:
        try:
            await asyncio.sleep(end - time.monotonic())
        except asyncio.CancelledError:
            pass

print("ready")
"""


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[Kernel]:
    with Kernel() as kernel:
        assert kernel.run(TOOLS).status == "ok"
        yield kernel


@pytest.fixture
def kernel(shared_kernel: Kernel) -> Iterator[Kernel]:
    """Share one kernel between tests, and check that it is well afterwards."""
    yield shared_kernel
    assert shared_kernel.value("run(asyncio.sleep(0.01, 'well'))") == "'well'", shared_kernel.log


@pytest.fixture
def fresh_kernel() -> Iterator[Kernel]:
    with Kernel() as kernel:
        assert kernel.run(TOOLS).status == "ok"
        yield kernel


@pytest.fixture
def silent() -> Iterator[ChatServer]:
    """Start a server that accepts connections and sends nothing."""
    with ChatServer(lambda received, attempt: hang()) as server:
        yield server


def is_interrupted(outcome: Outcome) -> bool:
    return (outcome.status, outcome.error_name) == ("error", "ChatInterrupt") and len(outcome.traceback) <= 3


# --- Run All


@pytest.mark.parametrize("preparation", ["", "import nest_asyncio; nest_asyncio.apply()"])
def test_cells_queued_during_a_call_all_run_in_order(preparation: str) -> None:
    with Kernel() as kernel:
        cells = [TOOLS, preparation, "order = []"]
        cells += [
            f"order.append(run(asyncio.sleep(0.3, {n}))); await asyncio.sleep(0.01); order.append('{n}')"
            for n in range(3)
        ]
        cells += [f"order.append(run(asyncio.sleep(0.2, {n})))" for n in range(3, 6)]
        outcomes = kernel.run_all([*cells, "order"])
        assert [outcome.status for outcome in outcomes] == ["ok"] * len(outcomes)
        assert outcomes[-1].result == "[0, '0', 1, '1', 2, '2', 3, 4, 5]"


@pytest.mark.parametrize("begin", ["raise ValueError", "run(asyncio.sleep(0.01)); raise ValueError"])
def test_cells_behind_a_failed_one_are_aborted(kernel: Kernel, begin: str) -> None:
    outcomes = kernel.run_all([begin, "1", "2"])
    assert [outcome.status for outcome in outcomes] == ["error", "aborted", "aborted"]


def test_cells_behind_an_interrupted_one_are_aborted(kernel: Kernel, silent: ChatServer) -> None:
    cells = [kernel.start(code) for code in (f"run(request({silent.port}))", "1", "2")]
    assert silent.wait_until(lambda server: server.in_flight == 1)
    kernel.interrupt()
    outcomes = [kernel.finish(cell) for cell in cells]
    assert is_interrupted(outcomes[0])
    assert [outcome.status for outcome in outcomes] == ["error", "aborted", "aborted"]


def test_output_goes_to_the_cell_that_made_it(kernel: Kernel) -> None:
    code = """
async def speak(who):
    for n in range(3):
        print(who, n)
        await asyncio.sleep(0.02)
    return await asyncio.to_thread(lambda: print(who, "thread"))
"""
    outcomes = kernel.run_all([code, *(f"run(speak('{who}'))" for who in "abc")])
    for who, outcome in zip("abc", outcomes[1:], strict=True):
        assert outcome.stdout == f"{who} 0\n{who} 1\n{who} 2\n{who} thread\n"


# --- interrupts

STREAM = "run(consume({port}, seen))"
ITERATE = "for line in iterate(lines({port})): seen.append(line)"
BATCH = "run(many({port}, 200, seen))"


@pytest.mark.parametrize("code", [STREAM, ITERATE, BATCH], ids=["stream", "iterate", "batch"])
def test_twenty_interrupts_at_random_moments(fresh_kernel: Kernel, code: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201  # a failure names it
    chance = random.Random(seed)

    def answer(received: Received, attempt: int) -> Answer:
        if code is BATCH:
            return DONE if attempt % 4 == 0 else hang()
        return drip(every_s=0.01)

    with ChatServer(answer) as server:
        kernel = fresh_kernel
        kernel.value("seen = []; run(asyncio.sleep(0))")
        fds = kernel.fds
        for _ in range(20):
            accepted = server.connections
            cell = kernel.start(code.format(port=server.port))
            assert server.wait_until(lambda server: server.connections > accepted)  # noqa: B023  # called at once
            time.sleep(chance.uniform(0, 0.15))
            kernel.interrupt()
            outcome = kernel.finish(cell)
            # Between two values the cell's own line is interrupted, by Python itself.
            assert is_interrupted(outcome) or (code is ITERATE and outcome.error_name == "KeyboardInterrupt"), outcome
            assert server.wait_until(lambda server: server.open_connections == 0)
        assert int(kernel.value("len(seen)")) > 0
        assert kernel.value("tasks()") == "0"
        assert kernel.fds <= fds + 2  # a leak would be one for each interrupt or connection
        assert kernel.value("run(asyncio.sleep(0.01, 'well'))") == "'well'"
        outcome = kernel.run("import asyncio; await asyncio.sleep(0.01); 'await works'")
        assert outcome.result == "'await works'"
        assert "Traceback" not in kernel.log, kernel.log


def test_the_kernel_is_idle_after_an_interrupt_while_the_server_still_hangs(kernel: Kernel, silent: ChatServer) -> None:
    cell = kernel.start(f"run(request({silent.port}), grace_s=3600)")
    assert silent.wait_until(lambda server: server.in_flight == 1)
    kernel.interrupt()
    outcome = kernel.finish(cell)
    assert is_interrupted(outcome)
    assert re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(outcome.traceback)) == "ChatInterrupt: Interrupted."
    assert silent.wait_until(lambda server: server.open_connections == 0)


def test_after_an_interrupt_everything_works(kernel: Kernel, silent: ChatServer) -> None:
    cell = kernel.start(f"run(request({silent.port}))")
    assert silent.wait_until(lambda server: server.in_flight == 1)
    kernel.interrupt()
    assert is_interrupted(kernel.finish(cell))
    with ChatServer(lambda received, attempt: DONE) as server:
        cells = [
            "gc.collect(); 1",
            f"len(run(request({server.port}))) > 10",
            "sum(iterate(numbers()))",
            "await asyncio.sleep(0.01); 4",
            "run(asyncio.sleep(0, 5))",
        ]
        numbers = "async def numbers():\n    for n in range(4):\n        yield n\n        await asyncio.sleep(0)"
        outcomes = kernel.run_all([numbers, *cells])
    assert [outcome.result for outcome in outcomes[1:]] == ["1", "True", "6", "4", "5"]


def test_an_interrupt_during_connect_is_the_interrupt(kernel: Kernel) -> None:
    # A listener whose queue is full answers nothing.
    code = """
import socket
full = socket.socket(); full.bind(("127.0.0.1", 0)); full.listen(0)
fill = [socket.socket() for _ in range(4)]
for one in fill:
    one.setblocking(False)
    one.connect_ex(full.getsockname())
print("go")
async def connect():
    try:
        return await asyncio.open_connection(*full.getsockname())
    except asyncio.CancelledError:
        raise ValueError("a library that makes something else of a cancel")
run(connect())
"""
    cell = kernel.start(code)
    kernel.seen(cell, "go")
    time.sleep(0.1)
    kernel.interrupt()
    assert is_interrupted(kernel.finish(cell))
    kernel.value("for one in [full, *fill]: one.close()")


def test_cleanup_that_hangs_ends_within_the_grace_time(kernel: Kernel) -> None:
    cell = kernel.start("run(stubborn(3600), grace_s=0.5)")
    kernel.seen(cell, "go")
    kernel.interrupt()
    assert is_interrupted(kernel.finish(cell))


@pytest.mark.parametrize(
    "code",
    [
        "async def block():\n    print('go', flush=True)\n    time.sleep(3600)\nrun(block())",
        "run(stubborn(3600), grace_s=3600)",
    ],
)
def test_the_second_interrupt_always_works(kernel: Kernel, code: str) -> None:
    cell = kernel.start(code)
    kernel.seen(cell, "go")
    time.sleep(0.1)
    kernel.interrupt()
    time.sleep(0.2)
    while not kernel.is_done(cell):  # two that come close together may be one to a busy system
        kernel.interrupt()
        kernel.listen()
    assert is_interrupted(kernel.finish(cell))


def test_a_burst_of_interrupts_leaves_the_kernel_well(kernel: Kernel, silent: ChatServer) -> None:
    for _ in range(5):
        cell = kernel.start(f"run(many({silent.port}, 50, []))")
        assert silent.wait_until(lambda server: server.in_flight > 10)
        kernel.interrupt(times=5)
        outcome = kernel.finish(cell)
        assert is_interrupted(outcome), outcome
        assert silent.wait_until(lambda server: server.open_connections == 0)


def test_a_later_call_may_last_longer_than_the_grace_time(kernel: Kernel) -> None:
    cell = kernel.start("print('go'); run(asyncio.sleep(60), grace_s=0.3)")
    kernel.seen(cell, "go")
    kernel.interrupt()
    assert is_interrupted(kernel.finish(cell))
    assert kernel.value("run(asyncio.sleep(0.6, 'late'), grace_s=0.3)") == "'late'"


@pytest.mark.parametrize("prefix", ["", "await asyncio.sleep(0)\n"], ids=["plain", "top-level await"])
@pytest.mark.parametrize("by_message", [False, True], ids=["signal", "message"])
def test_interrupts_reach_every_kind_of_cell(kernel: Kernel, silent: ChatServer, prefix: str, by_message: bool) -> None:
    cell = kernel.start(f"{prefix}run(request({silent.port}))")
    assert silent.wait_until(lambda server: server.in_flight == 1)
    kernel.interrupt(by_message=by_message)
    assert is_interrupted(kernel.finish(cell))
    assert silent.wait_until(lambda server: server.open_connections == 0)


# --- state, nesting, errors


@pytest.mark.parametrize("prefix", ["", "await asyncio.sleep(0)\n"], ids=["plain", "top-level await"])
def test_nothing_global_changes(fresh_kernel: Kernel, prefix: str) -> None:
    kernel = fresh_kernel
    state = (
        "(asyncio.run, asyncio.Task, asyncio.Future, asyncio.get_event_loop_policy(), id(asyncio.get_running_loop()),"
        " type(asyncio.get_running_loop()).run_forever, asyncio.SelectorEventLoop.__dict__.get('_nest_patched'))"
    )
    kernel.value(f"{prefix}before = {state}; handler = signal.getsignal(signal.SIGINT)")
    same = f"{state} == before and type(signal.getsignal(signal.SIGINT)) is type(handler)"
    kernel.value(f"{prefix}run(asyncio.sleep(0.01))")
    assert kernel.value(f"{prefix}{same}") == "True"
    kernel.run(f"{prefix}async def fail(): 1/0\nrun(fail())")
    assert kernel.value(f"{prefix}{same}") == "True"
    cell = kernel.start(f"{prefix}print('go')\nrun(asyncio.sleep(60))")
    kernel.seen(cell, "go")
    time.sleep(0.05)
    kernel.interrupt()
    assert is_interrupted(kernel.finish(cell))
    assert kernel.value(f"{prefix}{same}") == "True"
    inside = "async def inside():\n    async with asyncio.timeout(5): return asyncio.current_task() is not None\n"
    assert kernel.value(f"{inside}{prefix}run(inside())") == "True"


def test_a_call_nested_in_a_callback_is_a_clear_error(kernel: Kernel) -> None:
    outcome = kernel.run("async def inside(): run(asyncio.sleep(0))\nrun(inside())")
    assert (outcome.status, outcome.error_name) == ("error", "NestedCallError")


def test_an_exception_group_is_one_clean_error(kernel: Kernel) -> None:
    code = """
async def fail():
    async with asyncio.TaskGroup() as group:
        for error in (ValueError, OSError):
            group.create_task(raise_(error))
async def raise_(error): raise error("detail")
"""
    outcome = kernel.run_all([code, "run(fail())"])[1]
    assert (outcome.error_name, outcome.error_value) == (
        "UnexpectedError",
        "Several things failed at once: ValueError; OSError.",
    )
    behind = """
async def behind():
    try:
        await fail()
    except ExceptionGroup:
        raise LookupError("in front") from None
"""
    outcome = kernel.run_all([behind, "run(behind())"])[1]
    assert (outcome.error_name, outcome.error_value) == ("LookupError", "in front")
    assert outcome.traceback
    assert outcome.stderr == ""


# --- other places


@needs("uvloop")
def test_a_kernel_on_uvloop(tmp_path: Path, silent: ChatServer) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import asyncio, uvloop\nasyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    with Kernel(env={"PYTHONPATH": path}) as kernel:
        kernel.run(TOOLS)
        assert "uvloop" in kernel.value("await asyncio.sleep(0); type(asyncio.get_running_loop()).__module__")
        outcomes = kernel.run_all([f"run(asyncio.sleep(0.1, {n}))" for n in range(4)])
        assert [outcome.result for outcome in outcomes] == ["0", "1", "2", "3"]
        for _ in range(3):
            cell = kernel.start(f"run(many({silent.port}, 50, []))")
            assert silent.wait_until(lambda server: server.in_flight > 10)
            kernel.interrupt()
            assert is_interrupted(kernel.finish(cell))
            assert silent.wait_until(lambda server: server.open_connections == 0)
        assert kernel.value("run(asyncio.sleep(0.1, 'well'))") == "'well'"


@pytest.mark.skipif(
    not HAS_SUBSHELLS, reason='this ipykernel has no subshells: pip install -e ".[test]" "ipykernel>=7"'
)
def test_a_subshell_and_the_main_shell_at_once(fresh_kernel: Kernel) -> None:
    kernel = fresh_kernel
    subshell = kernel.control("create_subshell_request")["subshell_id"]
    kernel.value("there = set()")
    code = """
print("begin {name}")
there.add("{name}")
async def meet(seconds):
    while len(there) < 2:  # neither ends before both have begun
        await asyncio.sleep(0.01)
    return await asyncio.sleep(seconds, "{name}")
print("slept", run(meet({seconds})))
"""
    # Not to the same moment: ipykernel 7.4 then loses what one of the two shows, with time.sleep() as well.
    cells = [
        kernel.start(code.format(name="main", seconds=0.8)),
        kernel.start(code.format(name="sub", seconds=0.6), subshell=subshell),
    ]
    outcomes = [kernel.finish(cell) for cell in cells]
    assert [outcome.stdout for outcome in outcomes] == ["begin main\nslept main\n", "begin sub\nslept sub\n"]


def test_threads_and_forks_of_a_cell(kernel: Kernel) -> None:
    code = """
import threading
box = []
thread = threading.Thread(target=lambda: box.append(run(asyncio.sleep(0.05, "thread"))))
thread.start(); thread.join()
run(asyncio.sleep(0))
reader, writer = os.pipe()
if (child := os.fork()) == 0:
    try:
        os.write(writer, run(asyncio.sleep(0.05, b"child")))
    finally:
        os._exit(0)
os.close(writer)
os.waitpid(child, 0)
with os.fdopen(reader, "rb") as pipe:
    box.append(pipe.read().decode())
box.append(run(asyncio.sleep(0.05, "parent")))
box
"""
    assert kernel.run_all([code])[0].result == "['thread', 'child', 'parent']"


def test_a_terminal_with_ctrl_c(tmp_path: Path, silent: ChatServer) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"],
        env=clean_environment(tmp_path, {"TERM": "dumb"}),
        cwd=str(tmp_path),
        timeout=PATIENCE_S,
        encoding="utf-8",
    )
    try:
        terminal.expect_exact("In [1]: ")
        terminal.sendline("from tools import *")
        terminal.expect_exact("In [2]: ")
        for number, code in ((2, "run(request({}))"), (3, "await asyncio.sleep(0); run(request({}))")):
            terminal.sendline(code.format(silent.port))
            assert silent.wait_until(lambda server: server.in_flight == 1)
            terminal.sendintr()
            terminal.expect_exact("ChatInterrupt: Interrupted.")
            terminal.expect_exact(f"In [{number + 1}]: ")
            assert silent.wait_until(lambda server: server.open_connections == 0)
        terminal.sendline("run(asyncio.sleep(0.01, 'well'))")
        terminal.expect_exact("Out[4]: 'well'")
        terminal.sendline("exit()")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 0


def notebook(path: Path, cells: list[str]) -> Path:
    import nbformat

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)
    return path


CELLS = [TOOLS, "run(asyncio.sleep(0.1, 'one'))", "sum(run(asyncio.sleep(0.01, n)) for n in range(4))"]


@pytest.mark.parametrize("tool", ["nbclient", pytest.param("papermill", marks=needs("papermill"))])
def test_a_notebook_run_by_a_program(tmp_path: Path, tool: str) -> None:
    notebook(tmp_path / "in.ipynb", CELLS)
    code = {
        "nbclient": """
import nbclient, nbformat
book = nbformat.read("in.ipynb", 4)
nbclient.execute(book)
nbformat.write(book, "out.ipynb")
""",
        "papermill": """
import papermill
papermill.execute_notebook("in.ipynb", "out.ipynb", progress_bar=False)
""",
    }[tool]
    environment = clean_environment(tmp_path, {"JUPYTER_PATH": f"{sys.prefix}/share/jupyter"})
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    assert "'one'" in (tmp_path / "out.ipynb").read_text()


def test_a_plain_script_under_ctrl_c(tmp_path: Path, silent: ChatServer) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{TOOLS}\nprint(run(asyncio.sleep(0, 'plain')), flush=True)\nrun(request({silent.port}))\n")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert silent.wait_until(lambda server: server.in_flight == 1)
    process.send_signal(2)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert out == "ready\nplain\n"
    assert err.splitlines()[-1].endswith("ChatInterrupt: Interrupted.")
    assert process.returncode != 0
