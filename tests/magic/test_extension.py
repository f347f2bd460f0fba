"""The magics in a real shell, in this process, against a loopback server that keeps what it received."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pexpect
import pytest
from effort import PATIENCE_S
from frame_kinds import KINDS, FrameKind, columns_of
from IPython.core.interactiveshell import InteractiveShell
from kernels import clean_environment
from needs import lacking, needs
from picky import no_temperature, picky
from servers import Answer, ChatServer, Received, cut, hang, status, text
from traitlets.config import Config

import aichat_magic.chat.chat
from aichat_magic.chat.chat import Chat
from aichat_magic.core import sync as bridge
from aichat_magic.core.errors import AichatError, BadInputError, PromptError
from aichat_magic.core.messages import Reply
from aichat_magic.core.settings import Settings
from aichat_magic.store.memory import MemoryStore

CANARY = "sk-canary-magic"
PNG = b"\x89PNG\r\n\x1a\n..."


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[InteractiveShell]:
    """A terminal-like shell with the extension loaded, and a session of its own on the echo provider."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    settings = Settings(model="echo/echo", environ={"OPENAI_API_KEY": CANARY})
    chat = Chat(settings=lambda: settings, store=MemoryStore())
    monkeypatch.setattr(aichat_magic.chat.chat, "shared_chat", lambda: chat)
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    shell.run_line_magic("load_ext", "aichat_magic")
    yield shell
    shell.run_line_magic("unload_ext", "aichat_magic")
    bridge.run_sync(chat.http.aclose())


Cell = Callable[[str], Any]


@pytest.fixture
def run(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> Cell:
    """Runs a cell; gives the result and what was printed."""

    def run(source: str) -> Any:
        capsys.readouterr()
        result = shell.run_cell(source, store_history=True)
        printed = capsys.readouterr()
        return result, printed.out + printed.err

    return run


def flags(server: ChatServer) -> str:
    return f"-m openai/m --base-url {server.url}"


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [
        ("-t 0", "temperature", 0),
        ("--temperature 0.7", "temperature", 0.7),
        ("--temperature=0", "temperature", 0),
        ("--top-p 0.9", "top_p", 0.9),
        ("--max-tokens 12", "max_tokens", 12),
        ("--presence-penalty -1.5", "presence_penalty", -1.5),
        ("--frequency-penalty 0", "frequency_penalty", 0),
        ("--stop END", "stop", ["END"]),
        ('--stop "a b" --stop \'c"d\'', "stop", ["a b", 'c"d']),
        ("--seed 0", "seed", 0),
        ("--seed 42;", "seed", 42),
    ],
)
def test_sampling_flag_reaches_the_wire(run: Cell, flag: str, name: str, value: object) -> None:
    with ChatServer() as server:
        run(f"%%aichat {flags(server)} {flag}\nhello")
        assert server.requests[0].json[name] == value
        assert type(server.requests[0].json[name]) is type(value)


def test_model_flag_reaches_the_wire(run: Cell) -> None:
    with ChatServer() as server:
        run(f"%%aichat --model 'openai/meta-llama/Llama 3' --base-url {server.url}\nhello")
        assert server.requests[0].json["model"] == "meta-llama/Llama 3"


def test_system_flag_reaches_the_wire_and_stays_for_the_conversation(run: Cell) -> None:
    with ChatServer() as server:
        run(f"%%aichat {flags(server)} -s \"Don't ; say 'no'\"\nhello")
        run(f"%%aichat {flags(server)}\nmore")
        for received in server.requests:
            assert received.json["messages"][0] == {"role": "system", "content": "Don't ; say 'no'"}


def test_no_stream_flag_asks_for_the_whole_reply_and_shows_it(run: Cell) -> None:
    with ChatServer() as server:
        result, printed = run(f"%%aichat {flags(server)} --no-stream\nhello")
        _, again = run(f"%%aichat {flags(server)} --no-stream -f code\nmore")
        assert len(server.requests) == 2
        assert not any(received.json.keys() & {"stream", "stream_options"} for received in server.requests)
        assert [m["content"] for m in server.requests[1].json["messages"]] == ["hello", "echo: hello", "more"]
    assert printed.count("echo: hello") == 1
    assert again.count("echo: more") == 1
    assert result.result.usage.output_tokens == 2
    assert result.result.elapsed_s > 0


def test_no_stream_flag_tries_again_and_keeps_the_conversation_when_it_fails(run: Cell) -> None:
    with ChatServer(lambda received, attempt: status(503) if attempt == 1 else text("hi")) as server:
        _, printed = run(f"%%aichat {flags(server)} --no-stream\nhello")
        assert len(server.requests) == 2
    assert printed.count("hi") == 1
    with ChatServer(lambda received, attempt: status(400)) as server:
        result, _ = run(f"%%aichat {flags(server)} --no-stream\nmore")
    assert isinstance(result.error_in_exec, AichatError)


def test_option_that_the_server_refuses_is_told_under_the_reply_once(run: Cell) -> None:
    line = "[openai/m does not take temperature=0.2 (left out).]"
    with ChatServer(picky(no_temperature)) as server:
        result, printed = run(f"%%aichat {flags(server)} -t 0.2\nhello")
        _, again = run(f"%%aichat {flags(server)} -t 0.2 --no-stream\nhello")
        _, other = run(f"%%aichat {flags(server)} -t 0.3\nhello")
        assert len(server.requests) == 4
    assert re.search(rf"as you like\s+{re.escape(line)}", printed)
    assert "left out" not in again
    assert "temperature=0.3 (left out)" in other
    assert result.result.text == "as you like"


def test_refused_option_and_cut_reply_are_both_told(run: Cell) -> None:
    answer = text("as far as", finish="length")
    with ChatServer(picky(no_temperature, answer=lambda received, attempt: answer)) as server:
        _, printed = run(f"%%aichat {flags(server)} -t 0.2\nhello")
    assert "cut after 3 tokens" in printed
    assert "temperature=0.2 (left out)" in printed


def test_timeout_flag_ends_a_hanging_request(run: Cell) -> None:
    with ChatServer(lambda received, attempt: hang()) as server:
        run("%aichat set max_retries 0")
        result, printed = run(f"%%aichat {flags(server)} --timeout 0.3\nhello")
    assert "0.3 s" in printed
    assert isinstance(result.error_in_exec, TimeoutError)


def test_proxy_flag_sends_the_request_through_the_proxy(run: Cell) -> None:
    with ChatServer() as proxy:
        run(f"%%aichat -m openai/m --base-url http://elsewhere.invalid/v1 --proxy {proxy.root}\nhello")
        assert proxy.requests[0].path == "http://elsewhere.invalid/v1/chat/completions"


def test_key_in_the_environment_does_not_go_to_an_address_of_the_notebook(run: Cell) -> None:
    with ChatServer() as server:
        run(f"%%aichat {flags(server)}\nhello")
        run(f"%config AIChat.base_url = '{server.url}'\n")
        run("%%aichat -m openai/m\nhello")
        assert len(server.requests) == 2
        assert not any("authorization" in received.headers for received in server.requests)


def test_history_is_sent_and_new_and_no_history_do_not(run: Cell) -> None:
    with ChatServer() as server:
        for line in ("", "", "--no-history", "", "--new", ""):
            run(f"%%aichat {flags(server)} {line}\nhello")
        lengths = [len(received.json["messages"]) for received in server.requests]
    assert lengths == [1, 3, 1, 5, 1, 3]


def test_chat_flag_keeps_conversations_apart(run: Cell) -> None:
    with ChatServer() as server:
        for line in ("", "-c 'other one'", "", "-c 'other one'"):
            run(f"%%aichat {flags(server)} {line}\nhello")
        assert [len(received.json["messages"]) for received in server.requests] == [1, 1, 3, 3]


def test_output_flag_puts_the_reply_into_a_variable(run: Cell, shell: InteractiveShell) -> None:
    run("%%aichat -o answer\nhello there")
    assert isinstance(shell.user_ns["answer"], Reply)
    assert str(shell.user_ns["answer"]) == "hello there"


def test_value_of_the_cell_is_the_reply_and_it_is_shown_once(run: Cell, shell: InteractiveShell) -> None:
    result, printed = run("%%aichat\nhello there")
    assert isinstance(result.result, Reply)
    assert shell.user_ns["_"] is result.result
    assert printed.count("hello there") == 1
    _, again = run("_")
    assert again.count("hello there") == 1


def test_dry_run_shows_the_messages_and_sends_nothing(run: Cell) -> None:
    with ChatServer() as server:
        run(f"%%aichat {flags(server)}\nfirst")
        _, printed = run(f"%%aichat {flags(server)} --dry-run -s 'Be brief.' -t 0\nsecond {{x}}")
        assert len(server.requests) == 1
        run(f"%%aichat {flags(server)}\nthird")
        assert [message["content"] for message in server.requests[1].json["messages"]] == [
            "first",
            "echo: first",
            "third",
        ]
    for part in ("Be brief.", "first", "echo: first", "second {x}", "tokens", "temperature=0", server.url):
        assert part in printed


@pytest.mark.parametrize("line", ["--help", "-h", "-t 0 --help"])
def test_help_shows_the_manual_and_sends_nothing(run: Cell, line: str) -> None:
    with ChatServer() as server:
        result, printed = run(f"%%aichat {flags(server)} {line}\nhello")
        assert server.requests == []
    assert "--temperature" in printed
    assert result.success


def test_question_mark_shows_the_manual(run: Cell, shell: InteractiveShell) -> None:
    for line in ("%%aichat?", "?%aichat"):
        _, printed = run(line)
        assert "--temperature" in printed
        assert "%aichat help TOPIC" in printed


@pytest.mark.parametrize(
    "line",
    ["--nonsense", "-s 'open", "-t hot", "-t -0.5", "-t 2.5", "stray words", "(", "{f()} $c.k",
     "--base-url ftp://x", "--base-url http://x:99999", "--timeout 0", "-o 3x", "--raw --strict", "--chat",
     "-m aichat/gpt-3.5-turbo", "--proxy htp://x"],
)  # fmt: skip
def test_wrong_line_sends_nothing_and_is_a_short_error(run: Cell, shell: InteractiveShell, line: str) -> None:
    with ChatServer() as server:
        shell.user_ns["f"] = lambda: server.requests.append("evaluated")
        result, printed = run(f"%%aichat --base-url {server.url} -m openai/m {line}\nhello")
        assert server.requests == []
    assert isinstance(result.error_in_exec, AichatError)
    assert "Traceback" not in printed
    assert 1 <= len(printed.strip().splitlines()) <= 5


@pytest.mark.parametrize("value", ["df.head(40)", "frames['a']", "df[:40]", "'df.query(\"a > 1\")'"])
def test_batch_of_an_expression_says_to_assign_it_first(run: Cell, shell: InteractiveShell, value: str) -> None:
    shell.user_ns["df"] = shell.user_ns["frames"] = None
    result, printed = run(f"%%aichat --batch {value} --into x\nhello")
    assert isinstance(result.error_in_exec, BadInputError)
    assert re.search(r"first: rows = (df|frames)\W.*; then --batch rows", printed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quick.ipynb", "quick.ipy"])
@pytest.mark.parametrize("command", ["-m IPython {}", "-m IPython -c '%run {}'"])
def test_a_prompt_from_a_file_is_shown_above_its_reply(tmp_path: Path, name: str, command: str) -> None:
    cells = ["%load_ext aichat_magic", "%%aichat -m echo/echo\nfirst\nprompt \x1b[2J", "%aichat ask Hello"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    script = "\n".join(cells[::2]) if name.endswith(".ipy") else nbformat.writes(notebook)
    (tmp_path / name).write_text(script)
    done = subprocess.run(
        [sys.executable, *shlex.split(command.format(name))],
        cwd=tmp_path,
        env=clean_environment(tmp_path, {"AICHAT_MODEL": "echo/echo"}),
        capture_output=True,
        text=True,
    )
    shown = done.stdout.split("\nIn: ")[1:]
    assert shown[-1].startswith("%aichat ask Hello\nHello\n"), done.stderr
    if name.endswith(".ipynb"):
        assert re.match(r"%%aichat -m echo/echo\n    first\n    prompt \S*\[2J\nfirst\nprompt \S*\[2J\n", shown[0])
        assert "\x1b[2J" not in done.stdout


@pytest.mark.parametrize("prompt", ["two\nlines\n\n", "two\nlines\n\n\n", "two\nlines"])
def test_empty_lines_that_end_a_prompt_in_a_terminal_are_no_part_of_it(run: Cell, prompt: str) -> None:
    with ChatServer() as server:
        run(f"%%aichat {flags(server)}\n{prompt}")
        assert server.requests[0].json["messages"][-1]["content"] == "two\nlines"


def test_a_typed_prompt_is_not_shown_again(run: Cell) -> None:
    assert "In: " not in run("%%aichat\nhello")[1]


@pytest.mark.slow
def test_a_terminal_says_how_a_prompt_is_sent_and_sends_it_so(tmp_path: Path) -> None:
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--no-banner", "--no-confirm-exit", "--colors=NoColor"],
        env=clean_environment(tmp_path, {"TERM": "xterm", "AICHAT_MODEL": "echo/echo"}),
        cwd=str(tmp_path),
        timeout=PATIENCE_S,
        dimensions=(40, 120),
        encoding="utf-8",
    )
    try:
        terminal.expect_exact("In [")
        terminal.send("%load_ext aichat_magic\r")
        terminal.expect_exact("press Enter three times")
        terminal.expect_exact("In [")
        for line in ("%%aichat", "how are you", "", ""):
            terminal.send(f"{line}\r")
        terminal.expect_exact("echo/echo · ")
    finally:
        terminal.close(force=True)


@pytest.mark.parametrize("body", ["\n", "  \n\t\n"])
def test_empty_prompt_is_a_short_error(run: Cell, body: str) -> None:
    result, printed = run(f"%%aichat\n{body}")
    assert not result.success
    assert "prompt is empty" in printed


@pytest.mark.parametrize(
    "prompt",
    ["Costs $5 {not_there} {{x}} {'a': 1}", "unbalanced ( [ {", "trailing ;", "It's \"quoted\"", "a\n\n  b\n",
     "%magic !ls ?", "\\frac{a}{b} \\n", "äöü 🎈 \u2028 x", "print(f'{x!r}')", "# comment", "   indented"],
)  # fmt: skip
def test_prompt_reaches_the_server_byte_for_byte(run: Cell, shell: InteractiveShell, prompt: str) -> None:
    shell.user_ns["x"] = 3
    with ChatServer() as server:
        run(f"%%aichat {flags(server)}\n{prompt}")
        assert server.requests[0].json["messages"][-1]["content"] == prompt.removesuffix("\n")


def test_name_is_filled_from_the_notebook_and_said(run: Cell, shell: InteractiveShell) -> None:
    shell.user_ns["city"] = "Lisbon"
    _, printed = run("%%aichat\nIs {city} big? {unknown}")
    assert "Is Lisbon big? {unknown}" in printed
    assert "filled: city" in printed
    assert "left as text: {unknown}" in printed


def test_raw_fills_nothing(run: Cell, shell: InteractiveShell) -> None:
    shell.user_ns["city"] = "Lisbon"
    _, printed = run("%%aichat --raw\nIs {city} big?")
    assert "Is {city} big?" in printed
    assert "filled" not in printed


def test_strict_makes_an_unfilled_name_an_error(run: Cell) -> None:
    result, printed = run("%%aichat --strict\nIs {city} big?")
    assert not result.success
    assert "city" in printed


def test_failed_turn_does_not_enter_the_history(run: Cell) -> None:
    def answer(received: Received, attempt: int) -> Any:
        return {"bad": status(400), "cut": cut(after_chunks=2)}.get(received.last_message, text("fine"))

    with ChatServer(answer) as server:
        for prompt in ("one", "bad", "cut", "two"):
            run(f"%%aichat {flags(server)}\n{prompt}")
        assert [message["content"] for message in server.requests[-1].json["messages"]] == ["one", "fine", "two"]


def test_text_before_a_broken_stream_stays_visible_and_is_marked(run: Cell) -> None:
    with ChatServer(lambda received, attempt: cut(after_chunks=2)) as server:
        result, printed = run(f"%%aichat {flags(server)}\nhello")
    assert not result.success
    assert "word0 word1" in printed
    assert "truncated" in printed.lower() or "broke" in printed.lower()


def test_new_keeps_the_old_turns_when_the_first_new_one_fails(run: Cell) -> None:
    def answer(received: Received, attempt: int) -> Any:
        return status(400) if received.last_message == "bad" else text("fine")

    with ChatServer(answer) as server:
        run(f"%%aichat {flags(server)}\none")
        run(f"%%aichat {flags(server)} --new\nbad")
        run(f"%%aichat {flags(server)}\ntwo")
        assert len(server.requests[-1].json["messages"]) == 3


def test_turns_that_no_longer_fit_are_told_once(run: Cell) -> None:
    run("%aichat set max_history_tokens 40")
    told = [run(f"%%aichat\n{'word ' * 12}{number}")[1].count("no longer fit") for number in range(4)]
    assert told == [0, 1, 0, 0] or told == [0, 0, 1, 0]


@pytest.mark.parametrize("mode", ["Plain", "Context", "Verbose", "Minimal", "Docs"])
def test_error_is_short_in_every_traceback_mode_and_shows_no_key(run: Cell, mode: str) -> None:
    run(f"%xmode {mode}")
    with ChatServer(lambda received, attempt: status(401)) as server:
        _, printed = run(f"%%aichat {flags(server)}\nhello")
    assert len(printed.strip().splitlines()) <= 5
    assert CANARY not in printed


def test_debug_shows_the_whole_traceback_without_the_key(run: Cell) -> None:
    run("%xmode Verbose")
    with ChatServer(lambda received, attempt: status(401)) as server:
        _, printed = run(f"%%aichat {flags(server)} --debug\nhello")
    assert "Traceback" in printed
    assert CANARY not in printed


def test_error_prints_nothing_of_the_prompt(run: Cell) -> None:
    with ChatServer(lambda received, attempt: status(400)) as server:
        _, printed = run(f"%%aichat {flags(server)}\nmy private question")
    assert "private" not in printed


# The line magic ---------------------------------------------------------------------------------------------------


def test_bare_line_tells_model_conversation_and_totals(run: Cell) -> None:
    run("%%aichat\nhello")
    _, printed = run("%aichat")
    for part in ("echo/echo", "main (1 turn)", "1 reply"):
        assert part in printed


def test_ask_takes_the_text_as_it_stands(run: Cell) -> None:
    _, printed = run('%aichat ask What\'s "this" {thing} $5?')
    assert 'What\'s "this" {thing} $5?' in printed


@pytest.mark.parametrize("question", ["What is a mean?", "Is it?? ", "Why 'so'?"])
def test_ask_takes_a_question_mark_for_its_own(run: Cell, question: str) -> None:
    result, printed = run(f"%aichat ask {question}")
    assert result.success
    assert question.strip() in printed


def test_question_mark_in_a_prompt_below_a_cell_magic_stays(run: Cell) -> None:
    with ChatServer() as server:
        run(f"%%aichat {flags(server)}\n%aichat ask why?")
        assert server.requests[0].last_message == "%aichat ask why?"


@pytest.mark.parametrize("question", ["Why?", "What's wrong (if anything", "Is it 'so'?? "])
def test_question_is_a_value_in_functions_and_loops(run: Cell, shell: InteractiveShell, question: str) -> None:
    """Row 96."""
    with ChatServer(lambda received, attempt: text(f"<{received.last_message}>")) as server:
        run(f"%aichat set base_url {server.url}")
        run("%aichat use openai/m")
        result, _ = run(
            f"def ask(thing):\n    x = '''\n%aichat ask Why?\n'''\n    return %aichat ask {question}\n"
            f"answers = []\nfor thing in range(2):\n    q = %aichat ask {question}\n    answers.append(q)\n"
            f"answers.append(ask(1))"
        )
        assert result.success
        assert [received.last_message for received in server.requests] == [question.strip()] * 3
    assert [type(answer) for answer in shell.user_ns["answers"]] == [Reply] * 3
    assert str(shell.user_ns["q"]) == f"<{question.strip()}>"


def test_placeholder_of_ask_is_filled_from_the_function_it_is_in(run: Cell) -> None:
    run("city = 'Rome'\ndef f(city):\n    return %aichat ask Where is {city} ({country})?\ncountry = 'Italy'")
    assert str(run("f('Oslo')")[0].result) == "Where is Oslo (Italy)?"
    assert str(run("q = %aichat ask Where is {city}?\nq")[0].result) == "Where is Rome?"


def test_slip_in_a_placeholder_sends_nothing(run: Cell, shell: InteractiveShell) -> None:
    shell.user_ns["df"] = [1]
    with ChatServer() as server:
        for cell in (f"%%aichat {flags(server)}\nExplain {{dff}}.", "%aichat ask Explain {dff}."):
            result, printed = run(cell)
            assert isinstance(result.error_in_exec, PromptError)
            assert "Did you mean {df}? Nothing was sent." in " ".join(printed.split())
        assert server.requests == []
        run(f"%%aichat {flags(server)} --raw\nExplain {{dff}}.")
        assert server.requests[0].last_message == "Explain {dff}."


def test_formula_goes_out_as_it_is_and_a_line_says_so(run: Cell, shell: InteractiveShell) -> None:
    """Row 95."""
    shell.user_ns.update(x="CANARY", n="CANARY")
    formula = r"Is $\mathbf{x} = x_{n}$ right for x_{n}?"
    with ChatServer() as server:
        _, printed = run(f"%%aichat {flags(server)}\n{formula}")
        assert server.requests[0].last_message == formula
    assert "left as text: {x} in a formula, {n} in a formula" in " ".join(printed.split())


@pytest.mark.parametrize("line", ["%aichat what is it?", "q = %aichat what's up?", "%aichat modls"])
def test_line_that_is_no_command_sends_nothing_and_says_how_to_ask(run: Cell, line: str) -> None:
    result, printed = run(line)
    assert isinstance(result.error_in_exec, BadInputError)
    assert "Did you mean: %aichat" in " ".join(printed.split())


def test_use_changes_the_model_and_refuses_an_unknown_one(run: Cell) -> None:
    _, printed = run("%aichat use echo/other")
    assert "echo/other" in printed
    result, printed = run("%aichat use ecko/x")
    assert "Did you mean 'echo'" in printed
    assert not result.success
    assert run("%%aichat\nhi")[0].result.model == "echo/other"


def test_set_holds_for_later_cells_and_a_flag_wins(run: Cell) -> None:
    with ChatServer() as server:
        run("%aichat set temperature 0.5")
        run(f"%%aichat {flags(server)}\nhello")
        run(f"%%aichat {flags(server)} -t 0\nhello")
        assert [received.json["temperature"] for received in server.requests] == [0.5, 0]
    result, printed = run("%aichat set temperature 7")
    assert not result.success
    assert "between 0 and 2" in printed


@pytest.mark.parametrize("model", ["nobody/x", "gpt-5", "openai", "groq/x"])
def test_model_that_cannot_be_asked_is_a_short_error(run: Cell, model: str) -> None:
    result, printed = run(f"%%aichat -m {model}\nhello")
    assert isinstance(result.error_in_exec, AichatError)
    assert 1 <= len(printed.strip().splitlines()) <= 5


def test_config_sets_and_refuses(run: Cell, caplog: pytest.LogCaptureFixture) -> None:
    run("%config AIChat.model = 'echo/configured'")
    assert run("%%aichat\nhi")[0].result.model == "echo/configured"
    run("%config AIChat.temperature = 9")
    assert "between 0 and 2" in caplog.text
    assert run("%%aichat\nhi")[0].success


def test_models_lists_those_of_the_current_provider_or_the_named_one(run: Cell) -> None:
    assert "echo/echo" in run("%aichat models")[1]
    assert "lists no model" in run("%aichat models echo/zzz")[1]


@pytest.mark.parametrize("answer", [{"object": "list", "data": None}, {"data": []}, {"models": None}])
def test_server_that_lists_no_model_is_told_in_one_line(run: Cell, answer: Any) -> None:
    with ChatServer() as server:
        server.models = answer
        run(f"%aichat use m --base-url {server.url}")
        result, printed = run("%aichat models")
    assert result.success
    assert "openai lists no model." in printed


def test_providers_tell_whether_there_is_a_key_and_not_which(run: Cell) -> None:
    _, printed = run("%aichat providers")
    for part in (
        "openai",
        "from OPENAI_API_KEY",
        "set GROQ_API_KEY",
        "set AZURE_OPENAI_ENDPOINT",
        "not working",
        "in this process",
    ):
        assert part in printed
    assert CANARY not in printed


def test_conversations_are_listed_shown_forked_switched_undone_reset_and_deleted(run: Cell) -> None:
    run("%%aichat\nfirst question")
    assert "first question" in run("%aichat chats")[1]
    assert "first question" in run("%aichat show")[1]
    run("%aichat fork copy")
    run("%%aichat\nsecond question")
    assert "second question" not in run("%aichat show main")[1]
    assert "Removed 1 turn" in run("%aichat undo")[1]
    assert "main (1 turn)" in run("%aichat switch main")[1]
    run("%aichat reset")
    assert "first question" not in run("%aichat show")[1]
    run("%aichat delete copy")
    assert "copy" not in run("%aichat chats")[1]
    result, printed = run("%aichat show cop")
    assert not result.success
    assert "There is no conversation 'cop'" in printed


def test_usage_counts_replies_and_tokens_by_model(run: Cell) -> None:
    run("%%aichat\none two three")
    _, printed = run("%aichat usage")
    assert "echo/echo" in printed
    assert "3" in printed


@pytest.mark.parametrize(
    "line", ["modles", "use", "use a b", "set x", "undo x", "undo 0", "switch", "fork main main", "delete nobody"]
)
def test_wrong_command_is_a_short_error(run: Cell, line: str) -> None:
    result, printed = run(f"%aichat {line}")
    assert isinstance(result.error_in_exec, AichatError)
    assert len(printed.strip().splitlines()) <= 5


def test_help_shows_commands_and_flags(run: Cell) -> None:
    _, printed = run("%aichat help")
    assert "providers" in printed
    assert "--temperature" in printed
    assert "%aichat use MODEL" in run("%aichat help models")[1]


# Loading ----------------------------------------------------------------------------------------------------------


def footprint(shell: InteractiveShell) -> tuple[Any, ...]:
    assert shell.display_formatter is not None
    return (
        "aichat" in shell.magics_manager.magics["cell"],
        "aichat" in shell.magics_manager.magics["line"],
        "AIChat" in shell.magics_manager.registry,
        [configurable for configurable in shell.configurables if type(configurable).__name__ == "AIChat"] != [],
        len(shell.Completer.custom_matchers) if hasattr(shell.Completer, "custom_matchers") else 0,
        {name: len(calls) for name, calls in shell.events.callbacks.items()},
        len(shell.input_transformers_cleanup),
        len(shell.display_formatter.ipython_display_formatter.type_printers),
    )


def test_unload_leaves_nothing_behind_and_reload_works_after_a_bad_value(shell: InteractiveShell, run: Cell) -> None:
    run("%unload_ext aichat_magic")
    bare = footprint(shell)
    run("%load_ext aichat_magic")
    loaded = footprint(shell)
    assert loaded != bare
    run("%config AIChat.temperature = 'hot'")
    shell.config.AIChat.max_tokens = "many"
    with pytest.warns(UserWarning, match="ignores the configured settings of AIChat"):
        run("%reload_ext aichat_magic")
    assert footprint(shell) == loaded
    assert run("%%aichat\nhi")[0].success
    run("%unload_ext aichat_magic")
    assert footprint(shell) == bare


# A whole table ----------------------------------------------------------------------------------------------------


@pytest.fixture
def table(shell: InteractiveShell) -> Any:
    """A DataFrame `df` in the notebook."""
    import pandas as pd

    shell.user_ns["df"] = pd.DataFrame({"title": ["a", "b", "a"], "body text": ["x", None, "x"]}, index=[5, 5, 6])
    return shell.user_ns["df"]


def test_batch_cell_fills_the_column_and_asks_equal_rows_once(run: Cell, table: Any) -> None:
    with ChatServer() as server:
        result, printed = run(
            f"%%aichat {flags(server)} --batch df --into label -t 0 --concurrency 2\n{{title}}: {{body text}}"
        )
        assert [received.json["temperature"] for received in server.requests] == [0]
    assert result.success
    assert table["label"].isna().tolist() == [False, True, False]
    assert table["label"].tolist()[0] == "echo: a: x"
    assert "label_error" not in table
    assert "3 rows" in printed


def test_batch_cell_puts_errors_beside_the_column_and_takes_them_away_again(run: Cell, table: Any) -> None:
    is_bad = True

    def answer(received: Received, attempt: int) -> Any:
        return status(400) if is_bad and received.last_message == "b" else text("fine")

    with ChatServer(answer) as server:
        run(f"%%aichat {flags(server)} --batch df --into label\n{{title}}")
        assert table["label_error"].notna().tolist() == [False, True, False]
        is_bad = False
        run(f"%%aichat {flags(server)} --batch df --into label\n{{title}}")
        assert len(server.requests) == 3
    assert "label_error" not in table
    assert table["label"].tolist() == ["fine"] * 3


def test_one_bad_row_of_a_thousand_is_one_error_in_a_column_of_its_own(run: Cell, shell: InteractiveShell) -> None:
    """Row 29."""
    import pandas as pd

    shell.user_ns["df"] = frame = pd.DataFrame({"n": range(1000)})

    def answer(received: Received, attempt: int) -> Any:
        return status(400) if received.last_message == "row 500" else text(f"echo: {received.last_message}")

    with ChatServer(answer) as server:
        assert run(f"%%aichat {flags(server)} --batch df --into label\nrow {{n}}")[0].success
        assert len(server.requests) == 1000
    replies = [f"echo: row {number}" for number in range(1000) if number != 500]
    assert frame["label"].drop(500).tolist() == replies
    assert frame["label"].isna().sum() == 1
    assert frame["label_error"].notna().tolist() == [number == 500 for number in range(1000)]
    assert "400" in frame["label_error"][500]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.name.startswith("pandas")], ids=str)
def test_batch_cell_binds_frames_that_cannot_change_anew_and_says_so(
    run: Cell, shell: InteractiveShell, kind: FrameKind
) -> None:
    if reason := lacking(*kind.needs):
        pytest.skip(reason)

    def answer(received: Received, attempt: int) -> Answer:
        return status(400) if received.last_message == "bad" and not is_mended else text(f"to {received.last_message}")

    is_mended = False
    shell.user_ns["rows"] = given = kind.make({"x": ["a", "bad", None]})
    with ChatServer(answer) as server:
        _, printed = run(f"%%aichat {flags(server)} --batch rows --into label\n{{x}}")
        assert shell.user_ns["rows"] is not given
        assert f"rows is now a new {kind.returned[0]} with the column 'label'" in " ".join(printed.split())
        columns = columns_of(shell.user_ns["rows"])
        assert columns["x"] == ["a", "bad", None]
        assert columns["label"] == ["to a", None, None]
        assert columns["label_error"][1]
        is_mended = True
        run(f"%%aichat {flags(server)} --batch rows --into label\n{{x}}")
        assert columns_of(shell.user_ns["rows"]) == {"x": ["a", "bad", None], "label": ["to a", "to bad", None]}
        assert [received.last_message for received in server.requests].count("a") == 1
    shell.user_ns["rows"] = kind.make({"x": ["a"], "label_error": ["mine"]})
    assert "already" in run("%%aichat -m echo/echo --batch rows --into label --no-progress\n{x}")[1]


@needs("polars")
def test_batch_cell_over_polars_that_stops_keeps_what_it_has_not_reached(run: Cell, shell: InteractiveShell) -> None:
    import polars as pl

    def answer(received: Received, attempt: int) -> Answer:
        return status(401) if received.last_message == "2" else text("new")

    shell.user_ns["rows"] = pl.DataFrame({"n": [1, 2, 3], "label": ["old"] * 3, "number": [7, 8, 9]})
    with ChatServer(answer) as server:
        run(f"%%aichat {flags(server)} --batch rows --into label --concurrency 1\n{{n}}")
        assert shell.user_ns["rows"]["label"].to_list() == ["new", "old", "old"]
        run(f"%%aichat {flags(server)} --batch rows --into number --concurrency 1\n{{n}}")
        assert shell.user_ns["rows"]["number"].to_list() == ["new", "8", "9"]


def test_batch_cell_with_raw_fills_nothing(run: Cell, table: Any) -> None:
    with ChatServer() as server:
        _, printed = run(f"%%aichat {flags(server)} --batch df --into label --raw --dry-run\n{{titel}} {{x!r}}")
        assert "1 request" in printed or "1 unique" in printed
        run(f"%%aichat {flags(server)} --batch df --into label --raw\n{{titel}} {{x!r}}")
        assert [received.last_message for received in server.requests] == ["{titel} {x!r}"]
    assert set(table["label"]) == {"echo: {titel} {x!r}"}


def test_batch_cell_that_is_stopped_keeps_the_finished_rows(run: Cell, table: Any) -> None:
    def answer(received: Received, attempt: int) -> Any:
        return status(401) if received.last_message == "b" else text("fine")

    with ChatServer(answer) as server:
        result, printed = run(f"%%aichat {flags(server)} --batch df --into label --concurrency 1\n{{title}}")
    assert isinstance(result.error_in_exec, AichatError)
    assert "stopped after" in printed
    assert table["label"].tolist()[0] == "fine"


def test_batch_cell_gives_the_run(run: Cell, shell: InteractiveShell, table: Any) -> None:
    result, _ = run("%%aichat --batch df -o done --no-progress\n{title}")
    assert shell.user_ns["done"] is result.result
    assert list(shell.user_ns["done"].texts()) == ["a", "b", "a"]
    assert "label" not in table


def test_batch_dry_run_estimates_and_sends_nothing(run: Cell, table: Any) -> None:
    with ChatServer() as server:
        _, printed = run(f"%%aichat {flags(server)} --batch df --into label --dry-run\n{{title}}")
        assert server.requests == []
    assert "2 unique" in printed
    assert "label" not in table


def test_rows_counted_in_the_usage_of_the_session(run: Cell, table: Any) -> None:
    run("%%aichat --batch df --into label --no-progress --no-store\n{title}")
    _, printed = run("%aichat usage")
    assert "echo/echo" in printed


@pytest.mark.parametrize(
    "line",
    ["--batch df", "--into label", "--batch nothing --into x", "--batch df --into x --concurrency 0", "--concurrency 3",
     "--batch df --into x --max-cost-usd 1 -m ollama/x", "--batch df --into x --concurrency many"],
)  # fmt: skip
def test_wrong_batch_line_sends_nothing_and_is_a_short_error(run: Cell, table: Any, line: str) -> None:
    result, printed = run(f"%%aichat {line}\n{{title}}")
    assert isinstance(result.error_in_exec, AichatError)
    assert len(printed.strip().splitlines()) <= 5


def test_unknown_column_names_the_nearest_and_sends_nothing(run: Cell, table: Any) -> None:
    with ChatServer() as server:
        _, printed = run(f"%%aichat {flags(server)} --batch df --into label\n{{titel}}")
        assert server.requests == []
    assert "Did you mean 'title'" in printed


def test_stored_replies_are_counted_and_cleared(run: Cell, table: Any) -> None:
    run("%aichat store clear")
    run("%%aichat --batch df --into label --no-progress\n{title}")
    assert "2" in run("%aichat store")[1]
    assert "Removed 2 stored replies" in run("%aichat store clear")[1]
    assert not run("%aichat store burn")[0].success


def test_stored_replies_are_pruned_and_what_went_is_said(run: Cell, table: Any) -> None:
    run("%aichat store clear")
    run("%%aichat --batch df --into label --no-progress\n{title}")
    printed = " ".join(run("%aichat store")[1].split())
    assert "None is removed automatically; above 256.0 MB" in printed
    assert "prune --older 90d" in printed
    assert "Nothing to remove: 2 replies, 0.0 MB, the oldest from 2" in run("%aichat store prune --older 90d")[1]
    printed = " ".join(run("%aichat store prune --larger=0.001kB")[1].split())
    assert "Removed 2 stored replies; the oldest was from 2" in printed
    assert "Left: 0 replies, 0.0 MB." in printed


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("prune", "needs to know what to remove"),
        ("prune --older", "expected one argument"),
        ("prune --older 90", "--older takes a number with its unit, such as 90d"),
        ("prune --older 90m", "such as 90d"),
        ("prune --older -1d", "argument"),
        ("prune --older 0d", "such as 90d"),
        ("prune --larger 5", "such as 500MB"),
        ("prune --larger " + "9" * 400 + "MB", "such as 500MB"),
        ("prune --oldr 90d", "Did you mean '--older'"),
        ("prune 90d", "is not a flag"),
        ("burn", "has no action 'burn'"),
        ("clear all", "has no action 'clear'"),
    ],
)
def test_line_of_store_that_cannot_be_understood_removes_nothing(run: Cell, table: Any, rest: str, words: str) -> None:
    run("%%aichat --batch df --into label --no-progress\n{title}")
    result, printed = run(f"%aichat store {rest}")
    assert not result.success
    assert words in " ".join(printed.split())
    assert "2" in run("%aichat store")[1]


def test_included_data_reaches_the_server_between_fences_and_a_line_says_so(run: Cell, shell: InteractiveShell) -> None:
    shell.user_ns["rows"] = list(range(100_000))
    with ChatServer() as server:
        _, printed = run(f"%%aichat {flags(server)} -i rows -i rows\nSum {{rows}} up {{nobody}}.")
        (message,) = server.requests[0].json["messages"]
    assert message["content"].startswith("The user included the data below.")
    assert message["content"].count("### rows (list)\n```\n[0, 1, 2, ") == 1
    assert "\n```\n\n### Prompt\nSum [0, 1, " in message["content"]
    assert re.search(
        r"included: rows (\(first [\d,]+ of 100,000 items\)) · filled: rows \1 · left as text: \{nobody\}",
        printed,
    )


def test_dry_run_shows_what_is_included(run: Cell, shell: InteractiveShell, tmp_path: Any) -> None:
    (tmp_path / "notes.txt").write_text("canary in the file")
    shell.user_ns["picture"] = PNG
    with ChatServer() as server:
        _, printed = run(f"%%aichat {flags(server)} --dry-run -i picture --attach '{tmp_path}/notes.txt'\nExplain.")
        assert server.requests == []
    assert "### notes.txt (file)" in printed
    assert "canary in the file" in printed
    assert f"[image: png, {len(PNG)} bytes]" in printed


def test_last_exception_is_still_the_users_after_a_wrong_line(run: Cell) -> None:
    run("price = 0\n1 / price")
    run("%%aichat --nonsense\nhello")
    run("%%aichat -i nobody\nhello")
    with ChatServer() as server:
        run(f"%%aichat {flags(server)} -i err -i cells:1\nWhat went wrong?")
        content = server.requests[0].json["messages"][-1]["content"]
    assert "### err (ZeroDivisionError)\n```\nZeroDivisionError: division by zero\n" in content
    assert "    1 / price\n```" in content
    assert "```\nIn [1]:\nprice = 0\n1 / price\n```" in content


def test_figure_goes_out_as_an_image_and_again_with_the_next_turn(run: Cell, shell: InteractiveShell) -> None:
    """Row 98."""
    shell.user_ns["picture"] = PNG
    with ChatServer() as server:
        run(f"%%aichat {flags(server)}\nWhat is on {{picture}}?")
        _, printed = run(f"%%aichat {flags(server)}\nAnd in the corner?")
        assert "sent again: 1 image of earlier turns" in " ".join(printed.split())
        first, second = (received.json["messages"] for received in server.requests)
    assert first[0]["content"][0] == {"type": "text", "text": "What is on [image: picture]?"}
    assert first[0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert second[0] == first[0]
    # A model that cannot see goes on with the words.
    result, printed = run("%%aichat\nAnd you?")
    assert "not sent again: 1 image of earlier turns (echo takes none)" in " ".join(printed.split())
    assert str(result.result) == "And you?"
    assert result.result.messages[0].content == "What is on [image: picture]?"
    assert result.result.messages[0].images == ()


def images_sent(received: Received) -> int:
    return str(received.json["messages"]).count("data:image")


def test_figure_is_not_sent_for_ever_and_each_cell_says_so(run: Cell, shell: InteractiveShell) -> None:
    shell.user_ns["picture"] = PNG
    with ChatServer(lambda received, attempt: text("fine")) as server:
        run(f"%%aichat {flags(server)}\nWhat is on {{picture}}?")
        run(f"%%aichat {flags(server)}\nAnd in the corner?")
        for _ in range(2):
            _, printed = run(f"%%aichat {flags(server)}\nWhy?")
            printed = " ".join(printed.split())
            assert "not sent again: 1 image of earlier turns (max_history_images is 1)" in printed
            assert "include it in this cell" in printed
        run("%aichat set max_history_images 4")
        _, printed = run(f"%%aichat {flags(server)}\nAnd now?")
        assert "sent again: 1 image" in printed
        assert "not sent" not in printed
        run("%config AIChat.max_history_images = 0")
        run(f"%%aichat {flags(server)}\nAnd now?")
        assert [images_sent(received) for received in server.requests] == [1, 1, 0, 0, 1, 0]


def test_figure_goes_to_no_model_that_was_not_shown_any(run: Cell, shell: InteractiveShell) -> None:
    """It may take none, and would refuse each later turn."""
    shell.user_ns["picture"] = PNG

    def answer(received: Received, attempt: int) -> Any:
        is_blind = received.json["model"] == "blind"
        return status(400) if is_blind and images_sent(received) else text("fine")

    with ChatServer(answer) as server:
        run(f"%%aichat {flags(server)}\nWhat is on {{picture}}?")
        for _ in range(2):
            result, printed = run(f"%%aichat -m openai/blind --base-url {server.url}\nAnd in the corner?")
            assert result.success
        run("%aichat undo")
        result, printed = run(f"%%aichat -m openai/blind --base-url {server.url}\nAnd in the corner?")
        assert "not sent again: 1 image of earlier turns (max_history_images is" not in printed
        assert "(openai/blind has not been shown any)" in " ".join(printed.split())
        run("%aichat undo 2")
        run(f"%%aichat {flags(server)}\nAnd in the corner?")
        assert images_sent(server.requests[-1]) == 1


def test_attachment_that_no_longer_fits_is_told_each_time(run: Cell, tmp_path: Any) -> None:
    """Row 99."""
    (tmp_path / "notes.txt").write_text("### trap (file)\n" + "word " * 4_000)
    with ChatServer() as server:
        run("%aichat set max_history_tokens 3000")
        run(f"%%aichat {flags(server)} --attach '{tmp_path}/notes.txt'\nWhat is in it?")
        for number in range(3):
            _, printed = run(f"%%aichat {flags(server)}\nAnd {number}?")
            printed = " ".join(printed.split())
            assert (
                "The oldest turn of 'main' no longer fits and is not sent, nor is what it included: notes.txt."
                in printed
            )
            assert "include it in this cell again, whole or in part" in printed
        run(re.findall(r"%aichat set max_history_tokens \d+", printed)[0])
        _, printed = run(f"%%aichat {flags(server)}\nAnd now?")
        assert "no longer fit" not in printed
        assert "word word" in server.requests[-1].json["messages"][0]["content"]


def test_next_shows_what_the_next_cell_would_send_and_sends_nothing(
    run: Cell, shell: InteractiveShell, tmp_path: Any
) -> None:
    shell.user_ns["picture"] = PNG
    shell.user_ns["rows"] = list(range(100_000))
    with ChatServer() as server:
        run(f"%aichat set base_url {server.url}")
        run("%aichat use openai/m")
        run("%%aichat -s Short.\nWhat is on {picture}?")
        _, printed = run("%aichat show --next -i rows -t 0.5")
        assert len(server.requests) == 1
        shown = " ".join(printed.split())
        for part in (
            "Would be sent to openai/m",
            "nothing was sent",
            "Short.",
            "What is on [image: picture]?",
            f"[image: png, {len(PNG)} bytes]",
            "### rows (list)",
            "(the prompt of the next cell)",
            "temperature=0.5",
            "included: rows (first",
            "sent again: 1 image of earlier turns",
        ):
            assert part in shown, part
        assert re.search(r"about \d+ tokens", shown)
        run("%aichat set max_history_tokens 10")
        assert "no longer fit" in run("%aichat show --next")[1]
        # What was shown before is told all the same where it matters.
        assert "no longer fit" in run("%%aichat\nhello")[1]
        assert not run("%aichat show --nxt")[0].success


def test_image_for_a_model_that_takes_none_is_refused_before_sending(run: Cell, shell: InteractiveShell) -> None:
    shell.user_ns["picture"] = PNG
    result, printed = run("%%aichat\nWhat is on {picture}?")
    assert "Provider 'echo' takes no images." in printed
    assert not result.success


@pytest.mark.parametrize("flag", ["-i nobody", "-i 'f()'", "-i", "--attach /nowhere/at.all", "-i 'Out[9]'"])
def test_what_cannot_be_included_sends_nothing(run: Cell, flag: str) -> None:
    with ChatServer() as server:
        result, _ = run(f"%%aichat {flags(server)} {flag}\nhello")
        assert isinstance(result.error_in_exec, AichatError)
        assert server.requests == []


# --- runs over a table that must not lose what is the user's


def test_batch_that_answers_nothing_leaves_the_column_as_it_was(run: Cell, table: Any) -> None:
    with ChatServer(lambda received, attempt: status(401)) as server:
        table["label"] = ["one", "two", "three"]
        result, _ = run(f"%%aichat {flags(server)} --batch df --into label\n{{title}}")
    assert isinstance(result.error_in_exec, AichatError)
    assert table["label"].tolist() == ["one", "two", "three"]


def test_batch_that_is_stopped_leaves_the_rows_it_has_not_come_to(run: Cell, table: Any) -> None:
    def answer(received: Received, attempt: int) -> Any:
        return status(401) if received.last_message == "2" else text("fine")

    table["n"], table["label"] = [1, 2, 3], [10, 20, 30]
    with ChatServer(answer) as server:
        run(f"%%aichat {flags(server)} --batch df --into label --concurrency 1\n{{n}}")
    assert table["label"].tolist()[0] == "fine"
    assert table["label"].tolist()[2] == 30


@pytest.mark.parametrize("is_twice", [False, True])
def test_batch_refuses_columns_that_it_must_not_fill_and_sends_nothing(
    run: Cell, shell: InteractiveShell, table: Any, is_twice: bool
) -> None:
    import pandas as pd

    if is_twice:
        table = pd.concat([table, pd.DataFrame([[1, 2]] * 3, columns=["label", "label"], index=table.index)], axis=1)
        shell.user_ns["df"] = table
    else:
        table["label_error"] = "mine"
    before = table.copy()
    with ChatServer() as server:
        result, printed = run(f"%%aichat {flags(server)} --batch df --into label\n{{title}}")
        assert server.requests == []
    assert isinstance(result.error_in_exec, BadInputError)
    assert ("2 columns called 'label'" if is_twice else "'label_error'") in printed
    pd.testing.assert_frame_equal(table, before)


def test_batch_over_a_table_that_changes_meanwhile_is_counted_and_not_put_in(run: Cell, table: Any) -> None:
    def answer(received: Received, attempt: int) -> Any:
        table.index = [1, 2, 3]
        return text("fine")

    with ChatServer(answer) as server:
        result, printed = run(f"%%aichat {flags(server)} --batch df --into label --no-store\n{{title}}")
    assert isinstance(result.error_in_exec, BadInputError)
    assert "last_run" in printed
    assert "label" not in table
    assert table.aichat.last_run.frame()["reply"].tolist() == ["fine"] * 3
    assert "openai/m" in run("%aichat usage")[1]


@pytest.mark.parametrize("line", ["%%aichat -o class\nhello", "%aichat switch ''", "%aichat fork ''"])
def test_name_that_cannot_be_used_is_refused(run: Cell, line: str) -> None:
    result, _ = run(line)
    assert isinstance(result.error_in_exec, BadInputError)
    assert "main" in run("%aichat")[1]


def test_options_are_configured_and_sent(run: Cell) -> None:
    with ChatServer() as server:
        at = f"-m openai/m --base-url {server.url} --no-history"
        for setting in ("reasoning = 'none'", "tier = 'flex'", "options = {'top_k': 40}", "temperature = 0.5",
                        "strict_options = True"):  # fmt: skip
            run(f"%config AIChat.{setting}")
        run(f"%%aichat {at}\nhi")
        run("%config AIChat.temperature = 'unset'")
        run("%config AIChat.reasoning = ''")
        run("%config AIChat.options = {}")
        run(f"%%aichat {at} -O min_p=0.1\nhi")
        run("%config AIChat.options = {'top_k': {1}}")
        run(f"%%aichat {at} --tier unset\nhi")
        run("%aichat set temperature 0.7")
        run(f"%%aichat {at} -t unset --no-stream\nhi")
    fields = [{k: v for k, v in body.items() if k not in ("model", "messages", "stream", "stream_options")}
              for body in server.bodies]  # fmt: skip
    assert fields == [
        {"temperature": 0.5, "reasoning_effort": "none", "service_tier": "flex", "top_k": 40},
        {"service_tier": "flex", "min_p": 0.1},
        {},
        {"service_tier": "flex"},
    ]


def test_level_that_the_model_lacks_is_told_once(run: Cell) -> None:
    with ChatServer() as server:
        at = f"-m openai/o3 --base-url {server.url} --reasoning max"
        assert "openai/o3 has no level 'max' of reasoning; 'high' is used" in run(f"%%aichat {at}\nhi")[1]
        assert "has no level" not in run(f"%%aichat {at}\nhi")[1]


def test_dry_run_shows_the_options_that_would_be_sent(run: Cell) -> None:
    out = run("%%aichat -m echo --dry-run --reasoning low --tier flex -O top_k=40\nhi")[1]
    assert "reasoning='low', tier='flex', top_k=40" in out


def test_group_of_configured_values_with_a_wrong_one_changes_nothing(shell: InteractiveShell, run: Cell) -> None:
    shell.config.AIChat.model = "echo/refused"
    shell.config.AIChat.temperature = 9
    with pytest.warns(UserWarning, match="ignores the configured settings of AIChat"):
        shell.run_line_magic("reload_ext", "aichat_magic")
    assert run("%%aichat\nhi")[0].result.model == "echo/echo"


def test_emptied_config_value_goes_back_to_environment_and_file(run: Cell) -> None:
    run("%config AIChat.model = 'echo/configured'")
    run("%config AIChat.model = ''")
    assert run("%%aichat\nhi")[0].result.model == "echo/echo"
