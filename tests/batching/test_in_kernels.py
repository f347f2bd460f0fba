"""Runs over rows in real kernels and scripts: interrupts keep what is finished and stop what is not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from effort import PATIENCE_S
from kernels import PATIENT, Kernel, Outcome, clean_environment
from servers import Answer, ChatServer, Received, hang, text

pytestmark = pytest.mark.kernel


def answer(received: Received, attempt: int) -> Answer:
    return hang() if "hang" in received.last_message else text(f"echo: {received.last_message}")


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


@pytest.fixture(scope="module")
def kernel(server: ChatServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    store = tmp_path_factory.mktemp("store") / "replies.sqlite3"
    with Kernel(env={"AICHAT_STORE": str(store)}) as kernel:
        cells = [
            "%load_ext aichat_magic",
            "%aichat use vllm/test-model",
            f"%config AIChat.base_url = '{server.url}'",
            "import pandas as pd",
            PATIENT,
            # The first run imports and opens what later ones find open.
            "_ = pd.Series(['warm', 'up']).aichat.complete(progress=False)",
        ]
        assert [outcome.status for outcome in kernel.run_all(cells)] == ["ok"] * len(cells)
        yield kernel


def interrupt(kernel: Kernel, cell: str) -> Outcome:
    """The outcome of an interrupted cell. It ends while the server hangs, and without the help of a grace time."""
    kernel.interrupt()
    return kernel.finish(cell)


def assert_interrupted(outcome: Outcome) -> None:
    assert (outcome.status, outcome.error_name) == ("error", "ChatInterrupt"), outcome
    assert len("\n".join(outcome.traceback).splitlines()) <= 3
    assert "finished ones are kept" in outcome.error_value or "nothing" in outcome.error_value.lower(), outcome


def is_quiet(server: ChatServer) -> bool:
    """Whether no call is out, and none comes any more."""
    assert server.wait_until(lambda server: server.in_flight == 0)
    before = len(server.requests)
    time.sleep(0.5)
    return len(server.requests) == before


MAGIC = "%%aichat --batch df --into label --concurrency 200\n{kind} {n}"
ACCESSOR = "df.aichat.complete('{kind} {n}', concurrency=200)"


@pytest.mark.parametrize("code", [MAGIC, ACCESSOR], ids=["magic", "accessor"])
def test_interrupt_of_200_in_flight_keeps_what_is_finished(kernel: Kernel, server: ChatServer, code: str) -> None:
    run = random.randrange(10**6)
    finished = 300
    kernel.value(
        f"df = pd.DataFrame({{'n': range(1000), 'kind': 'row of {run}'}})\n"
        f"df.loc[{finished}:, 'kind'] = 'hang of {run}'\nNone"
    )
    left = server.closed_early
    cells = [kernel.start(code), kernel.start("'behind'")]
    assert server.wait_until(lambda server: server.in_flight >= 200)
    outcome = interrupt(kernel, cells[0])
    assert_interrupted(outcome)
    assert f"{finished}" in outcome.error_value
    assert kernel.finish(cells[1]).status == "aborted"
    assert is_quiet(server)
    assert server.closed_early >= left + 200
    assert kernel.tasks_left == 0
    kept = "df['label']" if code == MAGIC else "pd.Series(list(df.aichat.last_run.texts()) + [None] * 1000)[:1000]"
    kernel.value(f"kept = {kept}\nNone")
    assert (
        kernel.value(f"kept[:{finished}].tolist() == [f'echo: row of {run} {{n}}' for n in range({finished})]")
        == "True"
    )
    assert kernel.value(f"kept[{finished}:].isna().all()") in ("True", "np.True_")
    # The next cell works; the finished rows are in the store.
    before = len(server.requests)
    kernel.value("df['kind'] = df['kind'].str.replace('hang', 'done')\nNone")
    assert kernel.value("df.aichat.complete('{kind} {n}', progress=False).notna().sum()") in ("1000", "np.int64(1000)")
    assert len(server.requests) == before + 1000 - finished


def test_second_interrupt_changes_nothing(kernel: Kernel, server: ChatServer) -> None:
    run = random.randrange(10**6)
    cell = kernel.start(f"pd.Series([f'hang {run} {{n}}' for n in range(300)]).aichat.complete(concurrency=200)")
    assert server.wait_until(lambda server: server.in_flight >= 200)
    kernel.interrupt()
    outcome = interrupt(kernel, cell)
    assert outcome.status == "error"
    assert is_quiet(server)
    assert kernel.value(f"pd.Series(['{run}']).aichat.complete(progress=False)[0]") == f"'echo: {run}'"


def test_25_interrupts_at_random_moments(kernel: Kernel, server: ChatServer) -> None:
    """Row 26, for runs over rows."""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201  # a failure names it
    chance = random.Random(seed)
    for number in range(25):
        kernel.value(f"df = pd.DataFrame({{'n': range(20000), 'kind': 'row {seed} {number}'}})\nNone")
        before = len(server.requests)
        cell = kernel.start("%%aichat --batch df --into label --concurrency 64\n{kind} {n}")
        assert server.wait_until(lambda server: len(server.requests) > before)  # noqa: B023  # called at once
        time.sleep(chance.uniform(0, 0.4))
        outcome = interrupt(kernel, cell)
        assert_interrupted(outcome)
        assert server.wait_until(lambda server: server.in_flight == 0)
        sent = len(server.requests) - before
        kept = int(kernel.value("int(df['label'].notna().sum())"))
        assert sent - 64 <= kept <= sent
        wrong = "((df['label'] != 'echo: ' + df['kind'] + ' ' + df['n'].astype(str)) & df['label'].notna()).sum()"
        assert kernel.value(f"int({wrong})") == "0"
    assert is_quiet(server)
    assert kernel.tasks_left == 0
    assert kernel.value("pd.Series(['fine']).aichat.complete(progress=False)[0]") == "'echo: fine'"
    assert "Traceback" not in kernel.log, kernel.log


SCRIPT = textwrap.dedent(
    """
    import sys, time
    import aichat_magic
    from aichat_magic.batching import runner as batches
    from aichat_magic.core import sync as bridge
    from aichat_magic.core.errors import ChatInterrupt
    import pandas as pd
    bridge.run_sync.__kwdefaults__["grace_s"] = batches._DRAIN_S = 3600.0
    column = pd.Series([f"{'hang' if n >= 300 else 'row'} {n}" for n in range(1000)])
    try:
        column.aichat.complete(model="vllm/m", base_url=sys.argv[1], concurrency=200, progress=False)
    except KeyboardInterrupt as error:
        assert isinstance(error, ChatInterrupt), repr(error)
        texts = [text for text in column.aichat.last_run.texts() if text]
        assert texts == [f"echo: row {n}" for n in range(300)], texts
        print("kept", len(texts), flush=True)
    time.sleep(1)
    column = pd.Series([f"row {n}" for n in range(350)])
    run = column.aichat.run(model="vllm/m", base_url=sys.argv[1], progress=False)
    print("hits", run.progress.hits, "calls", run.progress.calls, flush=True)
    """
)


def test_interrupt_of_a_script_keeps_what_is_finished(server: ChatServer, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, server.url],
        env=clean_environment(tmp_path, {"AICHAT_STORE": str(tmp_path / "replies.sqlite3")}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.wait_until(lambda server: server.in_flight >= 200)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"kept 300\n"
    assert server.wait_until(lambda server: server.in_flight == 0)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err.decode()
    assert out == b"hits 300 calls 50\n"


def test_two_kernels_that_fill_one_store_at_once_lose_no_row(server: ChatServer, tmp_path: Path) -> None:
    """Row 31, for runs over rows."""
    prepare = f"""
import pandas as pd, aichat_magic
options = dict(model="vllm/m", base_url={server.url!r}, progress=False, concurrency=16)
def column(who):
    return pd.Series([f"{{who}} {{n}} of {tmp_path.name}" for n in range(600)])
"""
    environment = {"AICHAT_STORE": str(tmp_path / "replies.sqlite3")}
    with Kernel(env=environment) as one, Kernel(env=environment) as other:
        kernels = {"one": one, "other": other}
        for kernel in kernels.values():
            assert kernel.run(prepare).status == "ok"
        cells = {
            who: kernel.start(f"(column({who!r}).aichat.complete(**options) == 'echo: ' + column({who!r})).sum()")
            for who, kernel in kernels.items()
        }
        for who, kernel in kernels.items():
            outcome = kernel.finish(cells[who])
            assert outcome.result in ("600", "np.int64(600)"), outcome
            assert outcome.stderr == ""
        # Each finds what the other has asked.
        before = len(server.requests)
        for who, kernel in (("one", other), ("other", one)):
            assert "600" in kernel.value(f"column({who!r}).aichat.complete(**options).notna().sum()")
        assert len(server.requests) == before
