"""`%%aichat` and columns in real kernels, against a loopback server. The bridge alone: test_kernels.py."""

from __future__ import annotations

import ast
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from effort import PATIENCE_S
from kernels import PATIENT, Kernel, Outcome, clean_environment
from servers import Answer, ChatServer, Received, chunks, hang, status, text

pytestmark = pytest.mark.kernel


def answer(received: Received, attempt: int) -> Answer:
    """What the last message asks for."""
    prompt = received.last_message
    if prompt.startswith("hang"):
        return hang()
    if prompt.startswith("long"):
        return chunks([f"word{number} " for number in range(400)], delay_s=0.02)
    if prompt.startswith("refuse"):
        return status(400)
    if prompt.startswith("600"):
        return chunks([f"t{number} " for number in range(600)], delay_s=0.005)
    return text(f"echo: {prompt}")


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


@pytest.fixture(scope="module")
def shared_kernel(server: ChatServer) -> Iterator[Kernel]:
    with Kernel() as kernel:
        prepare(kernel, server)
        yield kernel


@pytest.fixture
def kernel(shared_kernel: Kernel) -> Iterator[Kernel]:
    """A kernel with the extension, every test in a new conversation, and well afterwards."""
    shared_kernel.run("%aichat reset")
    yield shared_kernel
    assert reply(shared_kernel, "%%aichat --no-history\nstill there?") == "echo: still there?", shared_kernel.log


def prepare(kernel: Kernel, server: ChatServer) -> None:
    cells = ["%load_ext aichat_magic", "%aichat use vllm/test-model", f"%config AIChat.base_url = '{server.url}'"]
    assert [outcome.status for outcome in kernel.run_all([*cells, PATIENT])] == ["ok"] * 4


def reply(kernel: Kernel, cell: str) -> str:
    """The text that a cell shows in the end."""
    outcome = kernel.run(cell)
    assert outcome.status == "ok", outcome
    return str(outcome.outputs[-1]["data"]["text/plain"])


def is_interrupted(outcome: Outcome) -> bool:
    return (outcome.status, outcome.error_name) == ("error", "ChatInterrupt") and n_lines(outcome) <= 3


def n_lines(outcome: Outcome) -> int:
    """How many lines an error takes in the notebook."""
    return len("\n".join(outcome.traceback).splitlines())


def sent(server: ChatServer) -> list[str]:
    """The contents of all messages of the last request."""
    return [message["content"] for message in server.bodies[-1]["messages"]]


@pytest.mark.parametrize("prepared", ["", "import nest_asyncio; nest_asyncio.apply()"])
def test_cells_queued_while_one_streams_run_in_order(server: ChatServer, prepared: str) -> None:
    with Kernel() as kernel:
        prepare(kernel, server)
        outcomes = kernel.run_all(
            [
                prepared,
                "%%aichat\n600 please",
                "%%aichat\ntwo",
                "await __import__('asyncio').sleep(0)",
                "%%aichat\nthree",
            ]
        )
        assert [outcome.status for outcome in outcomes] == ["ok"] * 5
        assert outcomes[1].shown.endswith("t599 ")
        assert [outcomes[2].outputs[-1]["data"]["text/plain"], outcomes[4].outputs[-1]["data"]["text/plain"]] == [
            "echo: two",
            "echo: three",
        ]
        assert sent(server)[0::2] == ["600 please", "two", "three"]


@pytest.mark.parametrize("by_message", [False, True], ids=["signal", "message"])
def test_an_interrupted_stream_stays_visible_and_out_of_the_history(
    kernel: Kernel, server: ChatServer, by_message: bool
) -> None:
    kernel.run("%%aichat\nfirst")
    left = server.closed_early
    cell = kernel.start("%%aichat\nlong")
    kernel.seen(cell, "word20 ")
    kernel.interrupt(by_message=by_message)
    outcome = kernel.finish(cell)
    assert "word399" not in outcome.shown  # it has ended before the stream
    assert is_interrupted(outcome)
    assert is_marked(outcome)
    assert "word20 " in outcome.outputs[-1]["data"]["text/plain"]
    assert server.wait_until(lambda server: server.closed_early == left + 1)
    assert kernel.tasks_left == 0
    kernel.run("%%aichat\nsecond")
    assert sent(server) == ["first", "echo: first", "second"]


def is_marked(outcome: Outcome) -> bool:
    """Whether the reply that is shown says that it was interrupted."""
    return "interrupted" in outcome.outputs[-1]["data"]["text/html"]


@pytest.mark.parametrize("by_message", [False, True], ids=["signal", "message"])
def test_an_interrupted_hang_ends_while_the_server_still_hangs(
    kernel: Kernel, server: ChatServer, by_message: bool
) -> None:
    kernel.run("%%aichat\nfirst")
    left = server.closed_early
    cells = [kernel.start(code) for code in ("%%aichat\nhang", "'behind'")]
    assert server.wait_until(lambda server: server.in_flight == 1)
    kernel.interrupt(by_message=by_message)
    outcomes = [kernel.finish(cell) for cell in cells]
    assert is_interrupted(outcomes[0])
    assert outcomes[1].status == "aborted"
    assert server.wait_until(lambda server: server.closed_early == left + 1)
    assert kernel.tasks_left == 0
    kernel.run("%%aichat\nsecond")
    assert sent(server) == ["first", "echo: first", "second"]


@pytest.mark.parametrize("code", ["%%aichat\nrefuse", "%aichat ask refuse", "%%aichat --nonsense\nhello"])
def test_cells_behind_one_that_failed_are_aborted(kernel: Kernel, server: ChatServer, code: str) -> None:
    failed, *behind = kernel.run_all([code, "'behind'", "%%aichat\nbehind"])
    assert failed.status == "error"
    assert [outcome.status for outcome in behind] == ["aborted", "aborted"]
    assert "behind" not in [received.last_message for received in server.requests]


BATCH = """
import pandas as pd
column = pd.Series([f"{'hang' if n > 50 else 'row'} {n}" for n in range(400)])
column.aichat.complete(concurrency=200)
"""
CELL = "%%aichat\nlong"
# What is open afterwards is no idle connection.
CLOSE_POOL = """
from aichat_magic.chat.chat import shared_chat
from aichat_magic.core.sync import run_sync as run
run(shared_chat().http.aclose())
"""


@pytest.mark.parametrize("code", [CELL, BATCH], ids=["stream", "batch"])
def test_25_interrupts_at_random_moments(server: ChatServer, code: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201  # a failure names it
    chance = random.Random(seed)
    whole = "".join(f"word{number} " for number in range(400))
    n_kept = 0
    with Kernel() as kernel:
        prepare(kernel, server)
        for _ in range(2):  # written to the store, then read from it
            kernel.value("import pandas as pd\npd.Series(['warm', 'up']).aichat.complete()")
        assert reply(kernel, "%%aichat\nwarm") == "echo: warm"
        kernel.value(CLOSE_POOL)
        fds = kernel.fds
        for number in range(25):
            before = len(server.requests)
            cell = kernel.start(code)
            assert server.wait_until(lambda server: len(server.requests) > before)  # noqa: B023  # called at once
            if code == CELL and number % 3 == 1:
                kernel.seen(cell, "word0 ")
            elif code == BATCH and number == 1:  # the rows that are answered are, and stay
                assert server.wait_until(lambda server: server.in_flight == 200)
            time.sleep(chance.uniform(0, 0.3))
            kernel.interrupt()
            outcome = kernel.finish(cell)
            assert is_interrupted(outcome), outcome
            assert server.wait_until(lambda server: server.in_flight == 0)
            if code == BATCH:
                kept = kernel.value("[text for text in column.aichat.last_run.texts() if text]")
                assert set(ast.literal_eval(kept)) <= {f"echo: row {number}" for number in range(51)}
                n_kept += len(ast.literal_eval(kept))
            elif text_of(outcome).startswith("word0 "):
                assert whole.startswith(text_of(outcome))
                assert is_marked(outcome)
                n_kept += 1
        assert n_kept >= 8
        quiet = len(server.requests)
        assert reply(kernel, "%%aichat\nafter") == "echo: after"
        assert len(server.requests) == quiet + 1  # none that was interrupted goes on, or comes later
        assert sent(server) == ["warm", "echo: warm", "after"]
        assert kernel.tasks_left == 0
        kernel.value(CLOSE_POOL)
        assert abs(kernel.fds - fds) <= 2
        assert kernel.value("import asyncio; await asyncio.sleep(0.01); 'await works'") == "'await works'"
        assert "Traceback" not in kernel.log, kernel.log


def text_of(outcome: Outcome) -> str:
    """The text of the reply that a cell shows in the end, without what is said about it."""
    return str(outcome.outputs[-1]["data"]["text/plain"]).partition("[")[0].rstrip("\n") if outcome.outputs else ""


def test_after_an_interrupt_everything_works(kernel: Kernel, server: ChatServer) -> None:
    cell = kernel.start("%%aichat\nlong")
    kernel.seen(cell, "word20 ")
    kernel.interrupt()
    assert is_interrupted(kernel.finish(cell))
    cells = ["import asyncio, gc; gc.collect(); 'collected'", "%%aichat\n600 please", "await asyncio.sleep(0.01); 4"]
    outcomes = kernel.run_all(cells)
    assert [outcome.status for outcome in outcomes] == ["ok"] * 3
    assert outcomes[1].shown.endswith("t599 ")
    assert outcomes[2].result == "4"
    assert [outcome.stderr for outcome in outcomes] == [""] * 3
    assert "Traceback" not in kernel.log, kernel.log
    assert "never" not in kernel.log, kernel.log  # retrieved, awaited


def test_a_call_nested_in_a_callback_of_ours_is_a_clear_error(kernel: Kernel, server: ChatServer) -> None:
    before = len(server.requests)
    code = """
import aichat_magic, pandas as pd
def nested(progress):
    aichat_magic.ask("nested")
pd.Series(["a", "b"]).aichat.complete(progress=nested)
"""
    outcome = kernel.run(code)
    assert (outcome.status, outcome.error_name) == ("error", "NestedCallError")
    assert "Await the asynchronous form" in outcome.error_value
    assert "nested" not in [received.last_message for received in server.requests[before:]]


GROUP = """
from aichat_magic.providers.openai import OpenAI
kept = OpenAI.stream, OpenAI.complete
async def fail():
    raise ExceptionGroup("many", [ValueError("one"), OSError("two")])
async def stream(self, request):
    await fail()
    yield
async def complete(self, request):
    await fail()
OpenAI.stream, OpenAI.complete = stream, complete
"""


def test_an_exception_group_of_a_provider_is_one_clean_error(kernel: Kernel) -> None:
    kernel.value(f"import pandas as pd\n{GROUP}")
    try:
        for code in ("%%aichat\nhello", "%%aichat --no-stream\nhello"):
            outcome = kernel.run(code)
            assert (outcome.status, outcome.error_name) == ("error", "UnexpectedError"), outcome
            assert n_lines(outcome) <= 3
        outcome = kernel.run("pd.Series(['a', 'b']).aichat.run(progress=False).errors")
        assert outcome.status == "ok"
        assert outcome.result.count("UnexpectedError") == 2
    finally:
        kernel.value("OpenAI.stream, OpenAI.complete = kept")


# --- what is shown


def test_a_long_stream_is_few_messages_and_complete(kernel: Kernel) -> None:
    outcome = kernel.run("%%aichat\n600 please")
    assert outcome.status == "ok"
    # Ten a second at most, however long it took here; the server sends for three seconds.
    assert len(outcome.outputs) <= outcome.execution / 0.1 + 10
    assert outcome.outputs[-1]["data"]["text/plain"].split() == [f"t{number}" for number in range(600)]


@pytest.mark.parametrize("code", ["%aichat ask 600 please", "%%aichat\n600 please", "%%aichat --no-stream\n600 please"])
def test_a_captured_cell_has_one_output(kernel: Kernel, code: str) -> None:
    captured, number, shown = kernel.run_all(
        [f"%%capture kept\n{code}", "len(kept.outputs)", "print(kept.outputs[0].data['text/plain'])"]
    )
    assert (captured.status, captured.outputs, captured.stdout) == ("ok", [], "")
    assert number.result == "1"
    assert shown.stdout.split() == [f"t{number}" for number in range(600)]


def test_a_terminal_shows_each_token_once(server: ChatServer, tmp_path: Path) -> None:
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"],
        env=clean_environment(tmp_path, {"TERM": "dumb", "AICHAT_BASE_URL": server.url, "AICHAT_MODEL": "vllm/m"}),
        cwd=str(tmp_path),
        timeout=PATIENCE_S,
        encoding="utf-8",
    )
    try:
        terminal.expect_exact("In [1]: ")
        terminal.sendline("%load_ext aichat_magic")
        terminal.expect_exact("In [2]: ")
        terminal.sendline("%aichat ask 600 please")
        terminal.expect_exact("In [3]: ")
        shown = terminal.before
        terminal.sendline("exit()")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert re.findall(r"\bt\d+\b", shown) == [f"t{number}" for number in range(600)]


def test_cells_share_a_connection_and_recover_when_it_is_closed(server: ChatServer) -> None:
    with ChatServer(answer) as own, Kernel() as kernel:
        prepare(kernel, own)
        assert reply(kernel, "%%aichat\none") == "echo: one"
        assert reply(kernel, "%%aichat\ntwo") == "echo: two"
        assert own.connections == 1
        own.close_idle()
        assert reply(kernel, "%%aichat\nthree") == "echo: three"
        assert own.connections == 2


# --- the magic line


PROMPTS = {
    "quotes": "It's \"quoted\" and 'so on'",
    "open quote": "it's open \"",
    "blanks": "  two  blanks \t and a tab",
    "lines": "a\n\n  b\n   c",
    "braces": "{x} {{x}} {'a': 1} {x!r} {x:>3} {f()} { x }",
    "double braces": "{x} {{x}}",
    "dollar": "$5 $x",
    "dollar and braces": "${y} $f()",
    "semicolon": "trailing ;",
    "parenthesis": "unbalanced ( [ {",
    "magics": "%time !ls ?x x? %%bash",
    "unicode": "äöü 🎈 \u2028 \u0085 x",
    "backslashes": "\\frac{a}{b} \\n \\",
    "hash": "# no comment",
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
def test_a_prompt_reaches_the_server_byte_for_byte(kernel: Kernel, server: ChatServer, prompt: str) -> None:
    filled = prompt.replace("{x} {{", "3 {{")  # the one placeholder that there is
    for code in (f"%%aichat --no-history\n{prompt}", f"%%aichat --no-history\n{prompt}\n"):
        kernel.run_all(["x = 3\ndef f(): 1/0", code])
        assert sent(server) == [filled]
    if "\n" not in prompt:
        kernel.run(f"%aichat ask {prompt}")
        assert sent(server)[-1] == filled.strip()


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("--temperature 0", {"temperature": 0}),
        ("-t 0.5 --seed 7", {"temperature": 0.5, "seed": 7}),
        ("--stop 'a b' --stop \"c'd\"", {"stop": ["a b", "c'd"]}),
        ("--stop a\\ b", {"stop": ["a b"]}),
        ("--stop $5", {"stop": ["$5"]}),
        ("--stop '{x}'", {"stop": ["{x}"]}),
        ("-t 0;", {"temperature": 0}),
        ("--max-tokens 5 ;", {"max_tokens": 5}),
        ("  --presence-penalty   -1.5  ", {"presence_penalty": -1.5}),
    ],
)
def test_a_line_is_parsed_as_a_shell_would(
    kernel: Kernel, server: ChatServer, line: str, body: dict[str, object]
) -> None:
    assert kernel.run(f"%%aichat --no-history {line}\nhello").status == "ok"
    came = server.bodies[-1]
    assert {name: came[name] for name in body} == body
    assert sent(server) == ["hello"]


@pytest.mark.parametrize(
    "line",
    ["-s 'open", '-s "open', "--nonsense", "-t -0.5", "-t hot", "(", "{x}", "$5", "stray words", "--max-tokens"],
)
def test_a_wrong_line_sends_nothing_and_is_a_short_error(kernel: Kernel, server: ChatServer, line: str) -> None:
    before = len(server.requests)
    outcome = kernel.run(f"%%aichat {line}\nhello")
    assert outcome.status == "error"
    assert n_lines(outcome) <= 3
    assert len(server.requests) == before


def test_a_line_is_not_evaluated(kernel: Kernel, server: ChatServer) -> None:
    kernel.value("evaluated = []\nclass c: k = property(evaluated.append)\ndef f(): evaluated.append(1)")
    before = len(server.requests)
    for line in ("{f()} $c.k", "-s {f()}", "-s {f()} --stop $c.k"):
        kernel.run(f"%%aichat --dry-run {line}\nhello")
        kernel.run(f"%aichat {line}")
    assert kernel.value("evaluated") == "[]"
    assert len(server.requests) == before


# --- loading

FOOTPRINT = """
def footprint():
    from aichat_magic.core.messages import Reply
    ip = get_ipython()
    return (
        [name for kind in ("line", "cell") for name in ip.magics_manager.magics[kind] if "aichat" in name.lower()],
        [name for name in ip.magics_manager.registry if "AIChat" in name],
        [one for one in ip.configurables if type(one).__name__ == "AIChat"],
        list(ip.Completer.custom_matchers),
        {event: len(calls) for event, calls in ip.events.callbacks.items()},
        list(ip.input_transformers_cleanup),
        ip.display_formatter.ipython_display_formatter.type_printers.get(Reply),
    )
bare = footprint()
"""


def test_load_unload_and_reload_leave_nothing_behind_whatever_was_configured(server: ChatServer) -> None:
    with Kernel() as kernel:
        assert kernel.run(FOOTPRINT).status == "ok"
        for bad in ("%config AIChat.temperature = 'hot'", "%config AIChat.max_retries = -1",
                    "get_ipython().config.AIChat.max_tokens = 'many'"):  # fmt: skip
            prepare(kernel, server)
            assert reply(kernel, "%%aichat --no-history\none") == "echo: one"
            loaded = int(kernel.value("len(get_ipython().configurables)"))
            kernel.run(bad)
            assert kernel.run("%reload_ext aichat_magic").status == "ok"
            assert int(kernel.value("len(get_ipython().configurables)")) == loaded
            assert reply(kernel, "%%aichat --no-history\ntwo") == "echo: two"
            assert kernel.complete("%aichat us")["matches"][:1] == ["use"]
            assert kernel.run("%unload_ext aichat_magic").status == "ok"
            assert kernel.value("footprint() == bare") == "True", kernel.value("footprint(), bare")
            assert "not found" in kernel.run("%aichat").stderr
            kernel.value("get_ipython().config.pop('AIChat', None)")
