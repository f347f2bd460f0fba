"""How views look where HTML is cleaned, converted or not shown at all: saved notebooks elsewhere, and terminals."""

import base64
import io
import os
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pexpect
import pytest
from kernels import clean_environment
from servers import Answer, ChatServer, Received, status, text

from aichat_magic.batching.progress_bar import ProgressBar
from aichat_magic.batching.runner import Progress
from aichat_magic.core.messages import Message, Reply
from aichat_magic.core.usage import Usage
from aichat_magic.text.widgets import Note, Table, Transcript
from aichat_magic.text.wrap import text_width

REPLY = Reply(
    text="## Gaps\n\nUse `isna()`:\n\n```python\na = 1\n\n![x](https://example.org/pixel.png)\n```\n\n"
    "| column | missing |\n|---|--:|\n| sex | 11 |\n\nSee [it](https://example.org).",
    model="openai/test-model",
    usage=Usage(input_tokens=12, output_tokens=34),
    elapsed_s=1.5,
)
# What GitHub leaves of the HTML in a saved notebook: tables, code, links, folds; no style, no class, no script.
KEPT = set(
    "a b br code details div em h1 h2 h3 h4 h5 h6 hr img li ol p pre s span strong summary table tbody td th thead tr "
    "ul".split()
)


class Cleaned(HTMLParser):
    """A page as a cleaner leaves it: known tags without their styles, and the text of all others."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.lines = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("div", "p", "tr", "pre", "li", "h2"):
            self.lines += "\n"
        if tag in ("td", "th"):
            self.lines += "\t"
        self.tags.append(tag)
        self.attributes += [(tag, name) for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.lines += data

    @property
    def shown(self) -> list[list[str]]:
        return [
            cells for line in self.lines.split("\n") if (cells := [cell for cell in line.split("\t") if cell.strip()])
        ]


def answer(received: Received, attempt: int) -> Answer:
    if "bad" in received.last_message:
        return status(400, body={"error": {"message": "This text was refused, and here is at some length why: " * 3}})
    return text("A reply of several words, which is longer than one line of a terminal is wide, and then some. " * 2)


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        yield server


@pytest.fixture(scope="module")
def views(server: ChatServer) -> dict[str, Any]:
    """One of each that a cell can show."""
    frame = pd.DataFrame({"x": ["a", "b", "bad", "c"]})
    options = {"model": "openai/test-model", "base_url": server.url, "progress": False}
    return {
        "reply": REPLY,
        "broken": Reply(text="It began", finish_reason="truncated"),
        "thinking": Reply(text="Four.", thinking="**Hm**, 2 + 2.", usage=Usage(reasoning_tokens=1200)),
        "run": frame.aichat.run("Say {x}", **options),
        "preview": frame.aichat.preview("Say {x}", n=3, **options),
        "usage": Table("Usage", ("model", "replies", "cost"), (("openai/test-model", 3, "unknown"),)),
        "dry run": Transcript(
            title="Would go", messages=(Message("user", "Hi\n\nyou"),), note="9 tokens", is_exact=True
        ),
        "note": Note("Model: openai/test-model"),
    }


def bundle(value: Any) -> dict[str, str]:
    if isinstance(value, pd.DataFrame):
        return {"text/plain": repr(value), "text/html": value._repr_html_()}
    return dict(value._repr_mimebundle_())


# Cleaned, as by GitHub, by VS Code or by an untrusted notebook ---------------------------------------------------


def test_no_view_needs_scripts_styles_or_elements_that_cleaners_drop(views: dict[str, Any]) -> None:
    for name, view in views.items():
        cleaned = Cleaned(bundle(view)["text/html"])
        assert set(cleaned.tags) <= KEPT, name
        assert not [pair for pair in cleaned.attributes if pair[1].startswith("on") or pair[1] == "id"]


def test_views_read_well_without_styles(views: dict[str, Any]) -> None:
    reply = Cleaned(bundle(views["reply"])["text/html"]).shown
    assert ["column", "missing"] in reply
    assert ["sex", "11"] in reply
    assert reply[-1] == ["openai/test-model · 12 + 34 tokens · 1.5 s"]  # a line of its own
    thinking = Cleaned(bundle(views["thinking"])["text/html"])
    assert "".join(map(str, thinking.shown)).startswith("['Thinking (1,200 tokens)")
    assert ("details", "open") not in thinking.attributes
    assert Cleaned(bundle(views["broken"])["text/html"]).shown[-1] == ["⚠ broke off before its end"]
    run = Cleaned(bundle(views["run"])["text/html"]).shown
    assert ["rows", "4"] in run
    assert ["errors", "1"] in run
    assert ["kind", "rows", "the first says"] in run
    assert "seconds per reply" not in "".join(map(str, run))  # labels of a picture are no text


def test_pictures_of_a_run_are_inside_the_notebook_and_say_what_they_show(views: dict[str, Any]) -> None:
    html = bundle(views["run"])["text/html"]
    pictures = re.findall(r'<img alt="([^"]+)"[^>]* src="data:image/svg\+xml;base64,([^"]+)">', html)
    assert [alt.partition(":")[0] for alt, _ in pictures] == ["seconds per reply", "replies over time"]
    for _, data in pictures:
        assert b"http" not in base64.b64decode(data).replace(b"http://www.w3.org/2000/svg", b"")


# Converted -------------------------------------------------------------------------------------------------------


def converted(kind: str, views: dict[str, Any]) -> str:
    """A saved notebook of all views, through nbconvert."""
    why = "nbconvert comes with JupyterLab. Mend it: python -m pip install nbconvert"
    nbconvert = pytest.importorskip("nbconvert", reason=why)
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    cells = [
        new_code_cell(f"show({name!r})", outputs=[new_output("display_data", data=bundle(view), metadata={})])
        for name, view in views.items()
    ]
    exporter = getattr(nbconvert, f"{kind}Exporter")()
    body, _ = exporter.from_notebook_node(new_notebook(cells=cells))
    return str(body)


@pytest.mark.filterwarnings("default")  # other people's
def test_notebook_as_html_shows_every_view(views: dict[str, Any]) -> None:
    page = converted("HTML", views)
    for words in ("openai/test-model · 12 + 34 tokens", ">sex</td>", "BadRequestError", "Would go", "broke off"):
        assert words in page
    assert "example.org/pixel.png" in page
    assert not re.search(r"<img[^>]*example\.org", page)


@pytest.mark.filterwarnings("default")  # other people's
def test_notebook_as_markdown_keeps_code_in_replies_code(views: dict[str, Any]) -> None:
    from markdown_it import MarkdownIt

    page = MarkdownIt("commonmark", {"html": True}).render(converted("Markdown", views))
    assert "![x](https://example.org/pixel.png)" in page
    assert not re.search(r"<img[^>]*example\.org", page)
    assert ">sex</td>" in page


# Plain text ------------------------------------------------------------------------------------------------------


def test_plain_text_of_every_view_says_the_same(views: dict[str, Any]) -> None:
    plain = {name: bundle(view)["text/plain"] for name, view in views.items()}
    assert plain["reply"] == REPLY.text
    assert plain["run"].startswith("<BatchRun 4 rows · ")
    assert "- 1 x BadRequestError" in plain["run"]
    for name in ("run", "preview", "usage", "note"):
        assert max(map(text_width, plain[name].split("\n"))) <= 80, name


def test_bar_says_that_the_network_is_away() -> None:
    screen = io.StringIO()
    bar = ProgressBar(1000, file=screen)
    bar(Progress(rows=1000, done=10, usage=Usage(input_tokens=10, output_tokens=5)))
    bar._bar.start_t -= 10  # type: ignore[union-attr]  # it has been going on for a while
    bar(Progress(rows=1000, done=400, usage=Usage(input_tokens=400, output_tokens=200)))
    for away_s in (12.0, 13.0):
        bar(Progress(rows=1000, done=400, away_s=away_s, try_every_s=8.0))
    drawn = screen.getvalue()
    assert "network away for 12 s, trying every 8 s" in drawn
    assert "network away for 13 s" in drawn
    bar(Progress(rows=1000, done=500, usage=Usage(input_tokens=500, output_tokens=250)))
    assert "750 tokens" in screen.getvalue().rpartition("\r")[2]
    bar(Progress(rows=1000, done=1000, is_last=True))


@pytest.mark.parametrize(
    ("reason", "words"),
    [("limit", "limit of the server reached, next call in 42 s"), ("loading", "loading the model, next call in 42 s")],
)
def test_bar_says_why_a_run_pauses(reason: str, words: str) -> None:
    screen = io.StringIO()
    bar = ProgressBar(1000, file=screen)
    bar(Progress(rows=1000, done=10))
    bar._bar.start_t -= 10  # type: ignore[union-attr]  # it has been going on for a while
    bar(Progress(rows=1000, done=400, pause_s=42.0, pause_reason=reason))
    assert words in screen.getvalue()
    bar(Progress(rows=1000, done=500))
    assert "next call" not in screen.getvalue().rpartition("\r")[2]
    bar(Progress(rows=1000, done=1000, is_last=True))


@pytest.mark.parametrize("columns", [80, 120])
def test_bar_of_a_run_fits_into_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen:
        encoding = "utf-8"

        def __init__(self) -> None:
            self.text = ""

        def write(self, piece: str) -> None:
            self.text += piece

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    bar = ProgressBar(250_000, file=screen)
    usage = Usage(input_tokens=123_456_789, output_tokens=98_765_432, cost_usd=1234.5678)
    bar(Progress(rows=250_000))
    bar._bar.start_t -= 10  # type: ignore[union-attr]  # it has been going on for a while
    for done in (1, 100_000, 249_999):
        bar(Progress(rows=250_000, done=done, hits=9_999, errors=1_234, calls=240_000, usage=usage, elapsed_s=99))
    bar(Progress(rows=250_000, done=250_000, errors=1_234, calls=1, usage=usage, elapsed_s=99, is_last=True))
    assert "%|" in screen.text
    assert max(text_width(line) for line in re.split(r"[\r\n]", screen.text)) < columns


@pytest.mark.slow
def test_terminal_of_80_columns_breaks_no_word(server: ChatServer, tmp_path: Any) -> None:
    environment = {
        **clean_environment(tmp_path, {"AICHAT_BASE_URL": server.url, "TERM": "xterm"}),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    lines = (
        "%load_ext aichat_magic",
        "%aichat use openai/a-model-with-a-name-that-is-not-short-20261123",
        "%aichat ask Tell me",
        "_",
        "%aichat ask bad one",
        "import pandas as pd; df = pd.DataFrame({'x': ['a', 'b', 'bad']})",
        "run = df.aichat.run('Say {x}'); run",
        "df.aichat.preview('Say {x}', n=3)",
        *(
            f"%aichat {command}"
            for command in ("usage", "usage day", "models", "providers", "chats", "show", "templates")
        ),
        "%aichat set nonsense 3",
    )
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"],
        env=environment, dimensions=(40, 80), encoding="utf-8", timeout=60, echo=False,
    )  # fmt: skip
    seen = {}
    try:
        terminal.expect_exact("In [1]: ")
        for number, line in enumerate(lines, start=2):
            terminal.sendline(line)
            terminal.expect_exact(f"In [{number}]: ")
            seen[line] = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", terminal.before or "").replace("\r\n", "\n")
    finally:
        terminal.close(force=True)
    shown = {line: re.split(r"[\r\n]", text.replace(str(tmp_path), "")) for line, text in seen.items()}
    assert [(line, part) for line in shown for part in shown[line] if text_width(part) > 80] == []
    for line in ("%aichat ask Tell me", "_", "%aichat show"):
        assert " ".join(seen[line].split()).count("which is longer than one line of a terminal is wide") >= 1
    assert "BadRequestError" in seen["%aichat ask bad one"]
