"""Several models in one cell: what is asked, shown, kept, counted and said when one of them fails."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from effort import PATIENCE_S
from kernels import PATIENT, Kernel
from safe_html import Checked
from servers import Answer, ChatServer, Received, chunks, event_stream, hang, status, text

from aichat_magic.chat.chat import Chat
from aichat_magic.core.errors import AichatError, BadInputError, BadRequestError, ContextLengthError
from aichat_magic.core.json_text import SchemaError
from aichat_magic.core.messages import Reply
from aichat_magic.core.settings import Settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.core.usage import Usage
from aichat_magic.magic.live import FinalView, StreamedView, UpdatedView
from aichat_magic.magic.notebook_identity import CellLocation
from aichat_magic.magic.session import Session
from aichat_magic.magic.side_by_side import SideBySide
from aichat_magic.store.conversations import SqliteConversations

PAIR = "-m vllm/a -m vllm/b"
A = Reply(text="Four.", model="vllm/a", usage=Usage(input_tokens=3, output_tokens=1, cost_usd=0.5), elapsed_s=1.5)
B = Reply(text="**Five**, I think.", model="vllm/b", usage=Usage(input_tokens=3, output_tokens=4), elapsed_s=2.5)


# --- the view


class Screen:
    """A terminal: all that was written, without control sequences."""

    def __init__(self) -> None:
        self.text = ""

    def board(self, *titles: str, **keywords: Any) -> SideBySide:
        return SideBySide(StreamedView(self._write, shows_dim=True, dim=("<", ">")), titles, **keywords)

    def _write(self, text: str) -> None:
        self.text += text


class Page:
    """A notebook: its one output, whatever was published for it."""

    def __init__(self) -> None:
        self.bundles: list[dict[str, str]] = []
        self.n_outputs = 0

    def board(self, *titles: str, final: bool = False) -> SideBySide:
        now = iter(range(10**6))
        live = FinalView(self._publish) if final else UpdatedView(self._publish, clock=lambda: next(now))
        return SideBySide(live, titles)

    def _publish(self, bundle: dict[str, str], display_id: str, is_update: bool) -> None:
        self.n_outputs += not is_update
        self.bundles.append(bundle)

    @property
    def shown(self) -> str:
        return Checked(self.bundles[-1]["text/html"]).text.replace("\n", "")


def test_a_page_shows_both_replies_as_they_grow_in_one_output() -> None:
    page = Page()
    first, second = page.board("1 · vllm/a", "2 · vllm/b").views
    second.update("Fi")
    assert page.shown == "1 · vllm/a2 · vllm/bFi▍"
    first.update("Fo")
    assert "Fo▍" in page.shown
    assert "Fi▍" in page.shown
    second.finish(B)
    assert "Fo▍" in page.shown
    first.finish(A)
    assert page.n_outputs == 1
    assert "Four.vllm/a · 3 + 1 tokens · $0.50 · 1.5 s" in page.shown
    assert "Five, I think." in page.shown
    assert "vllm/b · 3 + 4 tokens · 2.5 s" in page.shown
    plain = page.bundles[-1]["text/plain"]
    assert plain.index("1 · vllm/a") < plain.index("Four.") < plain.index("2 · vllm/b") < plain.index("**Five**")


def test_a_converted_notebook_has_all_replies_as_latex_and_not_as_markdown() -> None:
    page = Page()
    board = page.board("1 · vllm/a_1", "2 · vllm/b", "3 · vllm/c")
    board.note("filled: x_1")
    first, second, third = board.views
    second.finish(B)
    first.finish(A)
    assert "text/latex" not in page.bundles[-1]
    third.finish(None, note="refused: 5 %")
    latex = page.bundles[-1]["text/latex"]
    words = r"filled: x\\_1|vllm/a\\_1|Four\.|2 · vllm/b|\\textbf\{Five\}|2\.5 s|vllm/c|refused: 5 \\%"
    found = re.findall(words, latex)
    expected = r"filled: x\_1|vllm/a\_1|Four.|2 · vllm/b|\textbf{Five}|2.5 s|vllm/c|refused: 5 \%"
    assert found == expected.split("|")


def test_a_captured_cell_has_one_output_with_both() -> None:
    page = Page()
    board = page.board("1 · vllm/a", "2 · vllm/b", final=True)
    board.note("filled: x")
    first, second = board.views
    first.update("Fo")
    second.finish(B)
    assert page.bundles == []
    first.finish(A)
    assert len(page.bundles) == 1
    assert page.shown.startswith("filled: x1 · vllm/aFour.")


def test_a_terminal_shows_the_first_as_it_comes_and_then_the_second_with_all_it_has() -> None:
    screen = Screen()
    board = screen.board("1 · vllm/a", "2 · vllm/b")
    first, second = board.views
    board.note("filled: x")
    second.think("Hm")
    second.update("**Five**")
    assert "Five" not in screen.text
    first.update("Fo")
    assert screen.text == "filled: x\n1 · vllm/a\n\nFo"
    first.finish(A)
    assert screen.text.endswith("Four.\n[vllm/a · 3 + 1 tokens · $0.50 · 1.5 s]\n\n2 · vllm/b\n\n<Hm>\n\n**Five**")
    second.update("**Five**, I")
    assert screen.text.endswith("**Five**, I")
    second.finish(B)
    assert screen.text.endswith("\n**Five**, I think.\n[vllm/b · 3 + 4 tokens · 2.5 s]\n")
    assert screen.text.count("Four.") == screen.text.count("Five") == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_terminal_shows_every_reply_once_and_in_order_whichever_ends_first(order: Sequence[int]) -> None:
    screen = Screen()
    views = screen.board("one", "two", "three").views
    for number in order:
        views[number].finish(dataclasses.replace(A, text=f"reply {number}\n\n"))
    found = re.findall(r"one|two|three|reply \d", screen.text)
    assert found == ["one", "reply 0", "two", "reply 1", "three", "reply 2"]


def test_a_reply_that_failed_says_so_in_its_place() -> None:
    screen, page = Screen(), Page()
    for board in (screen.board("one", "two"), page.board("one", "two")):
        first, second = board.views
        first.finish(None, note="refused the request")
        second.update("half of")
        second.finish(dataclasses.replace(B, text="half of", finish_reason="interrupted"), note="interrupted")
    assert screen.text.startswith("one\n\n[refused the request]\n\ntwo\n\nhalf of\n[interrupted]\n")
    assert "one⚠ refused the request" in page.shown
    assert "half of⚠ interrupted" in page.shown


def test_a_status_is_shown_until_the_first_text_comes(capsys: pytest.CaptureFixture[str]) -> None:
    page = Page()
    first, second = page.board("one", "two").views
    first.status("Waiting for vllm/a")
    second.status("retrying", 1, 3)
    assert page.shown == "oneWaiting for vllm/atworetrying (1/3)"
    first.update("Four")
    assert page.shown == "oneFour▍tworetrying (1/3)"
    screen = Screen()
    first, second = screen.board("one", "two").views
    first.update("Fo")
    second.status("retrying", 1, 3)
    first.update("Four")
    assert screen.text == "one\n\nFour"
    assert capsys.readouterr().err == ""


# --- the cell


def with_schema(received: Received) -> bool:
    return "response_format" in received.json


class Desk:
    """A notebook at a server where each model answers as its name says."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteConversations(path)
        self.page = Page()
        self.variables: dict[str, Any] = {}
        self.server = ChatServer(self._answer)

    def _answer(self, received: Received, attempt: int) -> Answer:
        model = received.json["model"]
        if model.startswith("bad"):
            return status(400)
        if model == "json":
            return text('{"age": 4}')
        if model == "long":
            error = {"message": "This model's maximum context length is 10 tokens.", "code": "context_length_exceeded"}
            return status(400, body=json.dumps({"error": error}).encode())
        if model == "empty":
            return text("", finish="length")
        if model == "code":
            return text("```python\nx = 4\n```\n")
        if model == "thinker":
            deltas = [{"reasoning_content": "Hm"}, {"content": "Four."}]
            events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
            last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            return event_stream([f"data: {json.dumps(event)}\n\n" for event in (*events, last)] + ["data: [DONE]\n\n"])
        return text(f"{model} says {received.last_message}")

    def begin(self) -> None:
        settings = Settings(model="vllm/a", base_url=self.server.url, environ={"OPENAI_API_KEY": "sk-test"})
        self.chat = Chat(settings=lambda: settings, random=lambda: 0.0)
        self.session = Session(
            self.chat,
            self.variables,
            view=lambda is_streamed: self.page.board("one").views[0],
            views=lambda titles, is_streamed: self.page.board(*titles),
            shown=lambda reply: None,
            location=lambda: CellLocation(notebook="a.ipynb", is_notebook=True),
            store=lambda: self.store,
        )

    def ask(self, line: str, prompt: str = "hello") -> Any:
        return self.session.cell(line, prompt)

    def fails(self, kind: type[AichatError], line: str, prompt: str = "hello") -> str:
        with pytest.raises(kind) as caught:
            self.ask(line, prompt)
        return str(caught.value)

    @property
    def turns(self) -> list[tuple[str, str]]:
        """The turns that the next cell would send."""
        self.session.cell("-m vllm/probe --no-stream", "?")
        messages = [message["content"] for message in self.server.requests[-1].json["messages"]][:-1]
        self.session.command("undo")
        return list(zip(messages[::2], messages[1::2], strict=True))

    @property
    def models(self) -> list[str]:
        return [received.json["model"] for received in self.server.requests]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "c.sqlite3")
    with desk.server:
        desk.begin()
        yield desk
        desk.store.close()
        run(desk.chat.http.aclose())


def test_both_are_asked_once_and_the_first_goes_on(desk: Desk) -> None:
    reply = desk.ask(PAIR)
    assert str(reply) == "a says hello"
    assert sorted(desk.models) == ["a", "b"]
    assert "1 · vllm/a (goes on)a says hello" in desk.page.shown
    assert "2 · vllm/bb says hello" in desk.page.shown
    assert desk.turns == [("hello", "a says hello")]


def test_keep_names_the_one_that_goes_on(desk: Desk) -> None:
    assert str(desk.ask(f"{PAIR} -m vllm/c --keep 3")) == "c says hello"
    assert "3 · vllm/c (goes on)" in desk.page.shown
    assert desk.turns == [("hello", "c says hello")]


def test_without_a_conversation_none_goes_on(desk: Desk) -> None:
    desk.ask(f"{PAIR} --no-history")
    assert "goes on" not in desk.page.shown
    assert desk.turns == []


def test_each_model_is_told_of_what_it_was_sent_of_the_conversation(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    desk.ask(f"-m vllm/a --attach '{tmp_path / 'p.png'}'")
    not_again = "not sent again: 1 image of earlier turns (vllm/b has not been shown any)"
    desk.ask(f"{PAIR} --keep 2")
    sent = {received.json["model"]: '"image_url"' in json.dumps(received.json) for received in desk.server.requests[1:]}
    assert sent == {"a": True, "b": False}
    assert "1 · vllm/asent again: 1 image of earlier turnsa says" in desk.page.shown
    assert f"2 · vllm/b (goes on){not_again}" in desk.page.shown
    desk.ask("-m vllm/b -m vllm/b")
    assert desk.page.shown.startswith(not_again), "what is so for all of them stands above them"
    assert desk.page.shown.count("not sent again") == 1


def test_the_same_model_twice_is_asked_twice(desk: Desk) -> None:
    desk.ask("-m vllm/a -m vllm/a -o both")
    assert desk.models == ["a", "a"]
    assert [str(reply) for reply in desk.variables["both"]] == ["a says hello"] * 2


def test_usage_of_all_replies_is_counted_once(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.ask(PAIR)
    desk.session.command("usage")
    rows = re.findall(r"vllm/(\w) +(\d+) +(\d+) +(\d+)", capsys.readouterr().out)
    assert rows == [("a", "1", "1", "3"), ("b", "1", "1", "3")]
    desk.session.command("usage day")
    rows = re.findall(r"vllm/(\w) .*? +(\d+) +(\d+) +(\d+)", capsys.readouterr().out)
    assert rows == [("a", "1", "1", "3"), ("b", "1", "1", "3")]


@pytest.mark.parametrize(("line", "names"), [("-m vllm/a", ["a"]), (PAIR, ["a", "b"])])
def test_usage_of_a_reply_in_the_wrong_format_is_kept(
    desk: Desk, capsys: pytest.CaptureFixture[str], line: str, names: list[str]
) -> None:
    desk.fails(SchemaError, f"{line} --format json")
    capsys.readouterr()
    for period in ("", " day"):
        desk.session.command(f"usage{period}")
        assert re.findall(r"vllm/(\w) ", capsys.readouterr().out) == names


def test_output_is_a_list_in_the_order_of_the_models(desk: Desk) -> None:
    desk.ask(f"{PAIR} -o both")
    assert [reply.model for reply in desk.variables["both"]] == ["vllm/a", "vllm/b"]


def test_one_that_fails_leaves_the_other_and_is_told_afterwards(desk: Desk) -> None:
    message = desk.fails(BadRequestError, "-m vllm/a -m vllm/bad -o both")
    assert re.match(r"vllm/bad: .*400", message)
    assert message.endswith("vllm/a has answered, and goes on in the conversation.")
    assert [str(reply) for reply in desk.variables["both"]] == ["a says hello", "None"]
    assert "⚠ vllm refused the request (400)" in desk.page.shown
    assert desk.turns == [("hello", "a says hello")]


def test_the_kept_one_that_fails_leaves_the_conversation_as_it_was(desk: Desk) -> None:
    desk.ask("", "before")
    message = desk.fails(BadRequestError, "-m vllm/bad -m vllm/b", "after")
    assert "The conversation is unchanged" in message
    assert "b says after" in desk.page.shown
    assert desk.turns == [("before", "a says before")]


def test_all_that_fail_are_named(desk: Desk) -> None:
    message = desk.fails(BadRequestError, "-m vllm/bad1 -m vllm/b -m vllm/bad2 --keep 3")
    assert message.index("vllm/bad1: ") < message.index("vllm/bad2: ") < message.index("The conversation is unchanged")
    assert len(message.splitlines()) == 3


def test_a_request_that_is_too_long_for_one_says_what_to_do(desk: Desk) -> None:
    message = desk.fails(ContextLengthError, "-m vllm/a -m vllm/long", "hello")
    assert "vllm/long: " in message
    assert "has answered" in message


def test_a_reply_without_an_answer_is_counted_and_no_turn(desk: Desk) -> None:
    message = desk.fails(AichatError, "-m vllm/empty -m vllm/b -o both")
    assert "vllm/empty: " in message
    assert "no answer" in desk.page.shown
    assert desk.turns == []


def test_each_value_is_checked_against_the_schema(desk: Desk) -> None:
    @dataclasses.dataclass
    class Person:
        age: int

    desk.variables["Person"] = Person
    desk.ask("-m vllm/json -m vllm/json --schema Person -o both")
    assert [reply.value for reply in desk.variables["both"]] == [Person(4), Person(4)]
    message = desk.fails(SchemaError, "-m vllm/json -m vllm/b --schema Person -o both")
    assert "vllm/b: The reply does not have the requested format" in message
    assert "both[1].text" in message
    assert [reply.value for reply in desk.variables["both"]] == [Person(4), None]


def test_code_of_the_kept_reply_goes_below(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.ask("-m vllm/a -m vllm/code --keep 2 --code")
    assert "x = 4" in capsys.readouterr().out or "code" in desk.page.shown


def test_dry_run_shows_each_request_and_sends_none(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.ask(f"{PAIR} --dry-run") is None
    shown = capsys.readouterr().out
    assert shown.index("sent to vllm/a") < shown.index("sent to vllm/b")
    assert desk.server.requests == []


def test_thinking_is_folded_in_its_column(desk: Desk) -> None:
    desk.ask("-m vllm/thinker -m vllm/b")
    assert "<details" in desk.page.bundles[-1]["text/html"]
    assert "ThinkingHmFour." in desk.page.shown
    assert "Hm" not in desk.page.bundles[-1]["text/plain"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-m openai/a -m anthropic/b --base-url {url}", "2 providers: openai, anthropic"),
        (f"{PAIR} --keep 3", "there are 2"),
        (f"{PAIR} --keep 0", "--keep 0"),
        ("-m vllm/a --keep 1 --keep 2", "several models"),
        ("--keep 1", "several models"),
        (f"{PAIR} --batch df --into x", "--batch asks one model"),
    ],
)
def test_wrong_line_sends_nothing(desk: Desk, line: str, said: str) -> None:
    assert said in desk.fails(BadInputError, line.format(url=desk.server.url))
    assert desk.server.requests == []


def test_base_url_is_for_several_models_of_one_provider(desk: Desk) -> None:
    desk.ask(f"-m openai/a -m openai/b --base-url {desk.server.url}")
    assert sorted(desk.models) == ["a", "b"]


def test_both_are_in_flight_at_once(tmp_path: Path) -> None:
    """Each answers only once the other has been asked, too."""
    arrived: set[str] = set()
    both = asyncio.Event()

    def answer(received: Received, attempt: int) -> Answer:
        arrived.add(received.json["model"])

        async def play(exchange: Any) -> bool:
            if len(arrived) == 2:
                both.set()
            await both.wait()
            return await text("fine").play(exchange)

        return Answer(play)

    desk = Desk(tmp_path / "c.sqlite3")
    with ChatServer(answer) as desk.server:
        desk.begin()
        assert str(desk.ask(PAIR)) == "fine"
        desk.store.close()
        run(desk.chat.http.aclose())


# --- in a kernel


@pytest.mark.kernel
def test_interrupt_keeps_what_has_arrived_of_both_and_a_whole_kept_reply(tmp_path: Path) -> None:
    def answer(received: Received, attempt: int) -> Answer:
        if received.json["model"] == "quick" or received.last_message == "again":
            return text(f"quick says {received.last_message}")
        return hang() if received.json["model"] == "hang" else chunks([f"w{n} " for n in range(4000)], delay_s=0.01)

    with ChatServer(answer) as server, Kernel() as kernel:
        cells = ["%load_ext aichat_magic", "%aichat use vllm/m", f"%config AIChat.base_url = '{server.url}'", PATIENT]
        assert [outcome.status for outcome in kernel.run_all(cells)] == ["ok"] * 4
        for line, is_kept in (("-m vllm/quick -m vllm/slow", True), ("-m vllm/hang -m vllm/slow", False)):
            key = kernel.start(f"%%aichat {line}\nhello")
            kernel.seen(key, "w3 ", timeout=PATIENCE_S)
            kernel.interrupt()
            outcome = kernel.finish(key)
            assert (outcome.status, outcome.error_name) == ("error", "ChatInterrupt")
            kept = " vllm/quick has answered, and goes on in the conversation."
            assert outcome.error_value == f"Interrupted.{kept * is_kept}"
            shown = outcome.outputs[-1]["data"]
            assert Checked(shown["text/html"]).text.count("⚠ interrupted") == (1 if is_kept else 2)
            assert server.wait_until(lambda server: server.in_flight == 0)
            kernel.run("%%aichat -m vllm/m\nagain")
            sent = [message["content"] for message in server.bodies[-1]["messages"]]
            assert ("quick says hello" in sent) is is_kept
            kernel.run("%aichat reset")


@pytest.mark.kernel
def test_a_captured_cell_keeps_the_replies_of_all(tmp_path: Path) -> None:
    with (
        ChatServer(lambda received, attempt: text(f"{received.json['model']} says {received.last_message}")) as server,
        Kernel(env={"AICHAT_BASE_URL": server.url, "OPENAI_API_KEY": "sk-test"}) as kernel,
    ):
        cell = "%%capture kept\n%%aichat -m openai/a -m openai/b\n{missing} hello"
        assert [outcome.status for outcome in kernel.run_all(["%load_ext aichat_magic", cell])] == ["ok"] * 2
        shown = kernel.run("kept.show()")
        assert shown.status == "ok"
        for part in ("left as text: {missing}", "a says {missing} hello", "b says {missing} hello"):
            assert shown.shown.count(part) == 1
