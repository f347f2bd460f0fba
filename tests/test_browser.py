"""What a user sees and does in JupyterLab, in a real browser."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Lab, Notebook, chromium, missing
from servers import Answer, ChatServer, Exchange, Received, chunked, chunks, cut, hang, head, sse, status, text

pytestmark = pytest.mark.browser

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

if lack := missing():
    pytest.skip(lack, allow_module_level=True)

QUICKSTART = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
RICH = r"""## Cleaning the table

**Drop** what is missing with `df.dropna()`, see the [manual](https://example.org/manual). It costs $5 and $6; inline
math is $\frac{a}{b}$ or \(x^2\).

```python
@cache
def clean(df: pd.DataFrame, limit: int = 10) -> pd.DataFrame:
    '''Drop what is missing.'''
    # a comment
    return df[df["x"] > 3.5].dropna(how=None) if True else ValueError("no")
```

```sql
SELECT name, count(*) FROM t WHERE x = 'a' -- why
```

| name | tokens |
|:-----|-------:|
| a    | 12     |
| b    | 345    |

$$
\int_0^1 x^2\,dx = \frac13
$$

End.
"""
# Every way of running or fetching something that a reply could try; TRAP becomes the address of a listener.
HOSTILE = r"""
<img src="TRAP/img" onerror="pwned('img')"> <img src=x onerror=pwned('img2')>

<script>pwned('script'); fetch('TRAP/fetch')</script> <script src="TRAP/script"></script>

<iframe src="TRAP/iframe"></iframe> <iframe srcdoc="<script>parent.pwned('srcdoc')</script>"></iframe>

<form action="TRAP/form"><button formaction="javascript:pwned('button')">Send</button></form>

<svg onload="pwned('svg')"><image href="TRAP/svg"/><script>pwned('svg script')</script></svg>

<style>@import url(TRAP/import); * { background: url(TRAP/css) }</style>

<div style="background-image:url(TRAP/style)" data-commandlinker-command="notebook:restart-run-all"
data-commandlinker-args="{}" onmouseover="pwned('over')">a button like yours</div>

<link rel="stylesheet" href="TRAP/link"> <meta http-equiv="refresh" content="0;url=TRAP/meta"> <base href="TRAP/">

<video src="TRAP/video" poster="TRAP/poster"></video> <object data="TRAP/object"></object> <embed src="TRAP/embed">

![plot](TRAP/markdown-image.png) ![ref][plot] [![in a link](TRAP/nested.png)](javascript:pwned('nested'))

[plot]: TRAP/reference.png

[a](javascript:pwned('a')) [b](JaVaScRiPt:pwned('b')) [c](&#106;avascript:pwned('c')) [d](java&Tab;script:pwned('d'))
[e](data:text/html,<script>pwned('e')</script>) [f](vbscript:pwned) [g](/lab/api/settings) [h](//127.0.0.1/h)
[i](http://127.0.0.1/"onmouseover="pwned('i')) <javascript:pwned('j')>

| <img src=x onerror=pwned('cell')> | ![cell](TRAP/cell.png) |
|---|---|
| <script>pwned('td')</script> | [x](javascript:pwned('td')) |

- <img src="TRAP/item" onerror="pwned('item')">

> <iframe src="TRAP/quote"></iframe>

```html
</code></pre><img src="TRAP/code" onerror="pwned('code')">
```

```python "><img src="TRAP/info" onerror="pwned('info')">
x = 1
```

`<img src="TRAP/inline" onerror="pwned('inline')">`

$\href{javascript:pwned('tex')}{x}$ $x < \style{background:url(TRAP/tex)}{y}$ $\text{<img src=x onerror=pwned('text')>}$

$$
\require{html} \class{jp-Cell}{\cssId{jp-main-dock-panel}{x}} <img src="TRAP/display" onerror="pwned('display')">
$$

The end of the attack.
"""
UNWANTED = (
    "img, script, iframe, form, button, input, svg, style, link, meta, base, video, object, embed, "
    "[data-commandlinker-command], [onmouseover], [onerror], [onload], [id]"
)


# What the README shows.
SHOWN = r"""`isna()` marks each missing value, and a sum of marks counts them:

```python
gaps = df.isna().sum()
gaps[gaps > 0].sort_values(ascending=False)  # the worst first
```

| column        | missing | what to do                |
|:--------------|--------:|:--------------------------|
| `sex`         |      11 | keep as a group of its own |
| `body_mass_g` |       2 | drop, or take the median  |

The share of rows you keep is $1 - \frac{13}{344} \approx 96\,\%$ at least.
See the [manual](https://pandas.pydata.org/docs/user_guide/missing_data.html).
"""
TICKETS = ("The parcel came a day early, thank you!", "Third reminder, still no invoice.", "Works as described.",
           "The hinge broke after a week.", "Lovely colour, and it fits.")  # fmt: skip


# What models write beyond CommonMark.
EVERYDAY = """| input | meaning |
|---|---|
| H<sub>2</sub>O<br>and x<sup>2</sup> | <kbd>Ctrl</kbd>+<kbd>C</kbd>, <mark>marked</mark> |

- [x] load the table
- [ ] fill the gaps

<details>
<summary>How it is done</summary>

With `fillna`[^1].

</details>

See https://pandas.pydata.org/docs/ for more.

```python
table = load("a_file_with_a_long_name.csv").dropna(subset=["a", "b"]).sort_values("a").reset_index(drop=True)
print(table)
```

[^1]: Since pandas 1.0.
"""


class Gate:
    """A stream that waits after each piece of text, or of a message, until the test has looked."""

    def __init__(self, *pieces: str | dict[str, str], gates: dict[int, threading.Event] | None = None) -> None:
        self._pieces = pieces
        self._open = threading.Event()
        self.open = self._open.set
        # By the number of the piece that waits; by default, all but the first wait for the same one.
        self._gates = dict.fromkeys(range(1, len(pieces)), self._open) if gates is None else gates

    def answer(self) -> Answer:
        async def play(exchange: Exchange) -> bool:
            opening = head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
            await exchange.send(opening)
            for number, piece in enumerate(self._pieces):
                if gate := self._gates.get(number):
                    await asyncio.to_thread(gate.wait, 30)
                part = piece if isinstance(piece, dict) else {"content": piece}
                delta = {"index": 0, "delta": part, "finish_reason": None}
                await exchange.send_chunk(sse({"object": "chat.completion.chunk", "choices": [delta]}))
            last = {"index": 0, "delta": {}, "finish_reason": "stop"}
            await exchange.send(chunked(sse({"choices": [last]})) + chunked(sse("[DONE]")) + b"0\r\n\r\n")
            return True

        return Answer(play)


def held(until: threading.Event, answer: Answer) -> Answer:
    """The answer, once the test has looked."""

    async def play(exchange: Exchange) -> bool:
        await asyncio.to_thread(until.wait, 30)
        return await answer.play(exchange)

    return Answer(play)


class Servers:
    """A chat server that answers by the first word of the prompt, and a listener that nothing must reach."""

    def __init__(self, chat: ChatServer, trap: ChatServer) -> None:
        self.chat = chat
        self.trap = trap
        self.gate = Gate()
        self.half = threading.Event()

    def cell(self, prompt: str, flags: str = "--no-history") -> str:
        return f"%%aichat -m openai/m --base-url {self.chat.url} {flags}\n{prompt}"

    @property
    def hostile(self) -> str:
        return HOSTILE.replace("TRAP", self.trap.root)

    def mood(self, prompt: str) -> Answer:
        """A row of a table; one in fifty is refused."""
        number = int(re.findall(r"\d+", prompt)[-1])
        if number % 50 == 17:
            return status(400, body={"error": {"message": "This text was flagged by the content filter."}})
        reply = "unhappy" if re.search("still no|broke", prompt) else "happy"
        return text(reply, delay_s=random.Random(number).lognormvariate(-2.3, 0.4))

    def row(self, prompt: str) -> Answer:
        """Another; what comes after the half waits until the test has looked."""
        if prompt == "row 17":
            return status(400, body={"error": {"message": "<img src=x onerror=pwned('row')> is refused"}})
        reply = text(prompt, delay_s=0.15)
        return held(self.half, reply) if int(prompt.split()[1]) >= 50 else reply

    def answer(self, received: Received, attempt: int) -> Answer:
        prompt = received.last_message
        words = {
            "Is": lambda: self.mood(prompt),
            "Which": lambda: chunks(re.findall(r".{1,9}", SHOWN, re.DOTALL)),
            "row": lambda: self.row(prompt),
            "gate": self.gate.answer,
            "hang": hang,
            "hostile": lambda: chunks(re.findall(r".{1,40}", self.hostile, re.DOTALL)),
            "everyday": lambda: text(EVERYDAY),
            "rich": lambda: chunks(re.findall(r".{1,9}", RICH, re.DOTALL), delay_s=0.002),
            "long": lambda: chunks([f"word{number} " for number in range(5000)], delay_s=0.02),
            "600": lambda: chunks([f"t{number} " for number in range(600)], delay_s=0.005),
            "cut": lambda: cut(after_chunks=3),
            "refused": lambda: status(400, body={"error": {"message": self.hostile}}),
            "missing": lambda: status(404, body={"error": {"message": "The model `m` does not exist"}}),
        }
        return words.get(prompt.partition(" ")[0], lambda: text(f"echo: {prompt}"))()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ChatServer() as chat, ChatServer(lambda received, attempt: status(404)) as trap:
        servers = Servers(chat, trap)
        chat.answer = servers.answer
        yield servers


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("lab")
    with Lab(home, {"AICHAT_MODEL_DIR": str(home / "models")}) as lab:
        yield lab


@pytest.fixture(scope="module")
def model_folder(lab: Lab, request: pytest.FixtureRequest) -> Path:
    """The weights of the embedded model, where the kernels look for them."""
    pytest.importorskip("xllamacpp", reason='no xllamacpp. Mend it: python -m pip install -e ".[test]"')
    folder = lab.root.parent / "models"
    there = os.environ.get("AICHAT_MODEL_DIR") or request.getfixturevalue("model_cache")
    folder.symlink_to(Path(there), target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def context() -> Iterator[BrowserContext]:
    with chromium() as browser:
        # Tall, because JupyterLab leaves out what is far outside of the view.
        context = browser.new_context(viewport={"width": 1000, "height": 1500})
        context.add_init_script("window.pwnedBy = []; window.pwned = by => { window.pwnedBy.push(by) };")
        yield context


Open = Callable[..., Notebook]


@pytest.fixture
def open_notebook(lab: Lab, context: BrowserContext) -> Iterator[Open]:
    """Opens a notebook by its name; with cells, writes it before."""
    opened: list[Notebook] = []

    def open_(name: str, *cells: str) -> Notebook:
        if cells:
            lab.write(name, ["%load_ext aichat_magic", *cells])
        opened.append(Notebook.open(lab, context, name))
        return opened[-1]

    yield open_
    for notebook in opened:
        notebook.close()
    for notebook in opened:
        assert notebook.problems == []
        assert [url for url in notebook.requests if not url.startswith((lab.url, "data:", "blob:"))] == []


def error_of(notebook: Notebook, index: int) -> str:
    """The text of the error below a cell."""
    shown = notebook.output(index).locator("[data-mime-type='application/vnd.jupyter.stderr']").inner_text().strip()
    assert len(shown.splitlines()) <= 3
    return " ".join(shown.split())


def is_short(error: str) -> bool:
    return bool(error) and "Traceback" not in error


def test_text_grows_while_it_streams(open_notebook: Open, servers: Servers) -> None:
    servers.gate = Gate("The first half, ", "and the second half.")
    notebook = open_notebook("stream.ipynb", servers.cell("gate"))
    notebook.run_all()
    reply = notebook.replies(1)
    reply.get_by_text("The first half").wait_for()
    assert "second" not in reply.inner_text()
    assert "*" in notebook.prompt(1)
    servers.gate.open()
    notebook.wait_until_done(1)
    reply.get_by_text("The first half, and the second half.").wait_for()
    assert reply.count() == 1
    assert "▍" not in reply.inner_text()


THINKING = """The user wants the worst gaps first.

1. `isna()` marks each missing value, and **a sum** counts the marks.
2. Sorted from the largest, the first is `sex` with 11.

"""


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_thinking_is_open_until_the_answer_begins_and_opens_by_a_click(
    open_notebook: Open, servers: Servers, lab: Lab, theme: str
) -> None:
    steps = [threading.Event() for _ in range(2)]
    name = f"thinking-{theme.split()[-1].lower()}"
    servers.gate = Gate(
        {"reasoning_content": THINKING},
        {"reasoning_content": servers.hostile},
        "`sex` has 11 gaps, ",
        "the most.",
        gates={1: steps[0], 3: steps[1]},
    )
    notebook = open_notebook(f"{name}.ipynb", servers.cell("gate"))
    notebook.theme(theme)
    notebook.run_all()
    reply = notebook.replies(1)
    fold = reply.locator("details")
    reply.get_by_text("marks each missing value").wait_for()
    assert fold.get_attribute("open") is not None
    assert reply.locator("details strong").inner_text() == "a sum"
    notebook.select(0)
    notebook.photograph(f"{name}-open", 1)
    steps[0].set()
    reply.get_by_text("has 11 gaps").wait_for()
    assert fold.get_attribute("open") is None
    assert "marks each" not in reply.inner_text()
    notebook.photograph(f"{name}-answer", 1)
    steps[1].set()
    notebook.wait_until_done(1)
    reply.get_by_text("has 11 gaps, the most.").wait_for()
    assert "marks each" not in reply.inner_text()
    fold.locator("summary").click()
    reply.get_by_text("marks each missing value").wait_for()
    assert "<script>pwned('script')" in reply.inner_text()
    assert reply.locator(UNWANTED).count() == 0
    notebook.photograph(f"{name}-done", 1)
    notebook.save()
    notebook.theme("JupyterLab Light")

    saved = json.loads((lab.root / f"{name}.ipynb").read_text())
    saved["cells"][1]["source"] += " from elsewhere"
    (lab.root / f"{name}-elsewhere.ipynb").write_text(json.dumps(saved))
    untrusted = open_notebook(f"{name}-elsewhere.ipynb")
    assert not untrusted.is_trusted(1)
    reply = untrusted.replies(1)
    assert "marks each" not in reply.inner_text()
    reply.locator("details summary").click()
    reply.get_by_text("marks each missing value").wait_for()
    assert reply.locator(UNWANTED).count() == 0
    assert untrusted.page.evaluate("pwnedBy") == []


def test_embedded_model_streams(open_notebook: Open, model_folder: Path) -> None:
    notebook = open_notebook(
        "embedded.ipynb", "%%aichat --temperature 0\nExplain in a few sentences why the sky is blue."
    )
    notebook.run_all()
    reply = notebook.replies(1)
    reply.get_by_text(re.compile(r".{160,}▍$")).wait_for(timeout=60_000)
    notebook.select(0)
    notebook.photograph("streaming", 1)
    first = reply.inner_text().removesuffix("▍").rstrip()
    notebook.wait_until_done(1, timeout_s=60)
    whole = reply.inner_text()
    assert whole.startswith(first)
    assert len(whole) > len(first) + 40
    assert "▍" not in whole


def test_600_tokens_arrive_whole_and_never_blank_the_output(open_notebook: Open, servers: Servers) -> None:
    notebook = open_notebook("tokens.ipynb", servers.cell("600"))
    notebook.run(0)
    notebook.wait_until_done(0)
    notebook.page.evaluate(
        """() => {
            const cell = document.querySelector(".jp-Notebook .jp-Cell[data-windowed-list-index='1']");
            window.lengths = [];
            const look = () => {
                lengths.push([performance.now(), cell.querySelector(".aichat-reply")?.innerText.length ?? 0]);
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    notebook.run(1)
    notebook.wait_until_done(1)
    notebook.replies(1).get_by_text("t599").wait_for()
    assert notebook.replies(1).inner_text().split("\n")[0].split() == [f"t{number}" for number in range(600)]
    seen = [(at_ms, length) for at_ms, length in notebook.page.evaluate("lengths")]
    lengths = [length for _, length in seen]
    assert lengths == sorted(lengths)
    changed_ms = [at_ms for (at_ms, length), (_, before) in zip(seen[1:], seen, strict=False) if length != before]
    # Ten a second at most, however long it took here.
    assert 10 <= len(changed_ms) <= (changed_ms[-1] - changed_ms[0]) / 100 * 1.1 + 3


def test_run_all_keeps_the_order_of_three_prompts(open_notebook: Open, servers: Servers) -> None:
    servers.gate = Gate("slow ", "one")
    before = len(servers.chat.bodies)
    notebook = open_notebook(
        "order.ipynb", servers.cell("gate", "--new"), servers.cell("two", ""), "x = 1", servers.cell("three", "")
    )
    notebook.run_all()
    notebook.replies(1).get_by_text("slow").wait_for()
    assert ["*" in notebook.prompt(index) for index in (1, 2, 3, 4)] == [True] * 4
    assert notebook.replies(2).count() == 0
    servers.gate.open()
    notebook.wait_until_done(1, 2, 3, 4)
    assert [notebook.prompt(index) for index in range(5)] == ["[1]:", "[2]:", "[3]:", "[4]:", "[5]:"]
    shown = [notebook.replies(index).inner_text().split("\n")[0] for index in (1, 2, 4)]
    assert shown == ["slow one", "echo: two", "echo: three"]
    sent = [[message["content"] for message in body["messages"]] for body in servers.chat.bodies[before:]]
    assert sent == [
        ["gate"],
        ["gate", "slow one", "two"],
        ["gate", "slow one", "two", "echo: two", "three"],
    ]


def test_cell_that_is_run_again_sends_earlier_turns_only(open_notebook: Open, servers: Servers) -> None:
    prompts = ("one", "two", "three", "four")
    notebook = open_notebook("rerun.ipynb", *(servers.cell(prompt, "") for prompt in prompts))
    notebook.run_all()
    notebook.wait_until_done(1, 2, 3, 4)
    before = len(servers.chat.bodies)
    notebook.run(2)
    notebook.cell(2).locator(".jp-InputArea-prompt", has_text="[6]:").wait_for()
    sent = [[message["content"] for message in body["messages"]] for body in servers.chat.bodies[before:]]
    assert sent == [["one", "echo: one", "two"]]
    notebook.run(4)
    notebook.cell(4).locator(".jp-InputArea-prompt", has_text="[7]:").wait_for()
    asked = [message["content"] for message in servers.chat.bodies[-1]["messages"]][::2]
    assert asked == ["one", "two", "three", "four"]


def test_interrupt_button_ends_a_hang(open_notebook: Open, servers: Servers) -> None:
    notebook = open_notebook("hang.ipynb", servers.cell("hang"), servers.cell("next"))
    notebook.run_all()
    assert servers.chat.wait_until(lambda server: server.in_flight == 1)
    notebook.interrupt()
    notebook.wait_until_done(1)  # while the server hangs
    assert is_short(error_of(notebook, 1))
    assert servers.chat.wait_until(lambda server: server.in_flight == 0)
    assert notebook.prompt(2) == "[ ]:"  # what was queued is given up
    notebook.run(2)
    notebook.replies(2).get_by_text("echo: next").wait_for()


def test_interrupt_button_keeps_what_had_arrived(open_notebook: Open, servers: Servers) -> None:
    notebook = open_notebook("interrupt.ipynb", servers.cell("long", ""), servers.cell("next", ""))
    notebook.run_all()
    notebook.replies(1).get_by_text("word9 ").wait_for()
    notebook.interrupt()
    notebook.wait_until_done(1)
    notebook.replies(1).get_by_text("⚠ interrupted").wait_for()
    shown = notebook.replies(1).inner_text()
    assert shown.startswith("word0 word1 word2")
    assert "▍" not in shown
    assert is_short(error_of(notebook, 1))
    assert servers.chat.wait_until(lambda server: server.in_flight == 0)
    notebook.run(2)
    notebook.replies(2).get_by_text("echo: next").wait_for()
    notebook.photograph("interrupted")
    assert [message["content"] for message in servers.chat.bodies[-1]["messages"]] == ["next"]


def test_errors_are_short_and_stop_run_all(open_notebook: Open, servers: Servers) -> None:
    notebook = open_notebook("errors.ipynb", servers.cell("missing"), servers.cell("cut"), "%aichat use nonsense/x")
    notebook.run_all()
    notebook.wait_until_done(1)
    assert is_short(error_of(notebook, 1))
    assert "does not exist" in error_of(notebook, 1)
    assert notebook.prompt(2) == "[ ]:"
    notebook.run(2)
    notebook.wait_until_done(2)
    assert notebook.replies(2).inner_text().startswith("word0 word1 word2\n")
    assert "broke off" in notebook.replies(2).inner_text()
    assert is_short(error_of(notebook, 2))
    notebook.run(3)
    notebook.wait_until_done(3)
    assert is_short(error_of(notebook, 3))


def nothing_ran(notebook: Notebook, servers: Servers) -> None:
    """Assert that a reply, a transcript and an error are there as text, and did nothing."""
    reply = notebook.replies(1)
    reply.get_by_text("The end of the attack.").wait_for()
    for words in ("<script>pwned('script')", "onerror=\"pwned('img')\"", "[image: plot]", "a button like yours"):
        assert words in reply.inner_text()
    assert "[image: plot]" in notebook.output(2).inner_text()
    assert "<img" in error_of(notebook, 3)
    for index in (1, 2, 3):
        output = notebook.output(index).locator(".jp-OutputArea-output")
        assert output.locator(UNWANTED).count() == 0
        hrefs = output.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        assert [href for href in hrefs if href and not href.startswith(("http://", "https://", "mailto:"))] == []
    reply.hover()
    reply.click(position={"x": 5, "y": 5})
    # A request of the test's own, so that one of the reply's would have come before.
    notebook.page.evaluate("url => fetch(url, {mode: 'no-cors'}).then(() => 0)", f"{servers.trap.root}/of-the-test")
    assert [received.path for received in servers.trap.requests] == ["/of-the-test"]
    servers.trap.requests.clear()
    notebook.requests.remove(f"{servers.trap.root}/of-the-test")
    assert notebook.page.evaluate("pwnedBy") == []


def test_hostile_reply_neither_runs_nor_fetches(open_notebook: Open, servers: Servers, lab: Lab) -> None:
    servers.trap.requests.clear()
    notebook = open_notebook(
        "hostile.ipynb", servers.cell("hostile", ""), "%aichat show", servers.cell("refused as hostile")
    )
    notebook.run_all()
    notebook.wait_until_done(1, 2, 3)
    nothing_ran(notebook, servers)
    notebook.save()

    saved = json.loads((lab.root / "hostile.ipynb").read_text())
    kinds = {kind for cell in saved["cells"] for output in cell["outputs"] for kind in output.get("data", ())}
    assert kinds == {"text/plain", "text/html", "text/latex"}  # what is no output but an error has no kind

    trusted = open_notebook("hostile.ipynb")
    assert trusted.is_trusted(1)
    nothing_ran(trusted, servers)

    saved["cells"][1]["source"] += " from elsewhere"  # no longer what was signed
    (lab.root / "elsewhere.ipynb").write_text(json.dumps(saved))
    untrusted = open_notebook("elsewhere.ipynb")
    assert not untrusted.is_trusted(1)
    nothing_ran(untrusted, servers)


def test_same_text_as_markdown_runs_and_fetches(open_notebook: Open, servers: Servers) -> None:
    """The measure of the test above: what it looks for does happen where nobody prevents it."""
    servers.trap.requests.clear()
    notebook = open_notebook(
        "hole.ipynb", f"from IPython.display import Markdown\nMarkdown({servers.hostile.partition('<meta')[0]!r})"
    )
    notebook.run_all()
    notebook.page.wait_for_function("pwnedBy.includes('img') && pwnedBy.includes('script')")
    assert servers.trap.wait_until(lambda server: any(received.path == "/img" for received in server.requests))
    assert notebook.output(1).locator(UNWANTED).count() > 0
    notebook.requests.clear()
    notebook.problems.clear()


@pytest.fixture(scope="module")
def rich(lab: Lab, context: BrowserContext, servers: Servers) -> Iterator[Notebook]:
    """A saved notebook whose cell 1 has a reply with everything that Markdown has."""
    lab.write("rich.ipynb", ["%load_ext aichat_magic", servers.cell("rich"), "%aichat providers"])
    notebook = Notebook.open(lab, context, "rich.ipynb")
    notebook.run_all()
    notebook.wait_until_done(1, 2)
    notebook.save()
    yield notebook
    notebook.close()


@pytest.fixture(scope="module")
def views(lab: Lab, context: BrowserContext, servers: Servers) -> Iterator[Notebook]:
    """A saved notebook with a reply, a run over rows, tables and an error."""
    lines = ["text", *(f'"{TICKETS[number % len(TICKETS)]} (ticket {number})"' for number in range(240))]
    (lab.root / "tickets.csv").write_text("\n".join(lines))
    lab.write(
        "views.ipynb",
        [
            f"%load_ext aichat_magic\n%config AIChat.base_url = {servers.chat.url!r}\n%aichat use openai/test-model",
            "%%aichat\nWhich columns of my table have gaps, and how many?",
            "import pandas as pd\n\ntickets = pd.read_csv('tickets.csv')",
            "%%aichat --batch tickets --into mood --temperature 0\nIs this customer happy or unhappy? One word: {text}",
            "tickets[['text', 'mood']].head(4)",
            "%aichat usage day",
            "%aichat chats",
            "%aichat providers",
            "%%aichat --dry-run -s 'Answer in one line.'\nHello",
            "%%aichat --temperature 3\nHello",
        ],
    )
    notebook = Notebook.open(lab, context, "views.ipynb")
    notebook.run_all()
    notebook.wait_until_done(9)
    notebook.save()
    yield notebook
    notebook.close()


def is_run_view(notebook: Notebook) -> None:
    """Assert that a run is shown with its facts, pictures that can be seen, and its errors as text."""
    output = notebook.output(3)
    shown = output.inner_text()
    for words in ("240 rows · ", " · 5 errors", "Run", "per reply", "FlaggedPromptError", "This text was flagged"):
        assert words in shown
    assert "replies over time" not in shown  # that is in a picture
    pictures = output.locator("img")
    sizes = pictures.evaluate_all("all => all.map(i => [i.complete, i.naturalWidth, i.getBoundingClientRect().top])")
    assert sizes == [[True, 264, sizes[0][2]]] * 2  # side by side
    assert (pictures.first.get_attribute("alt") or "").startswith("seconds per reply: 0.")


def test_run_over_rows_shows_a_bar_in_its_middle(open_notebook: Open, servers: Servers) -> None:
    servers.half.clear()
    table = "import pandas as pd\ndf = pd.DataFrame({'n': range(100)})"
    flags = "--batch df --into reply --concurrency 10 --max-retries 0"
    notebook = open_notebook("bar.ipynb", table, servers.cell("row {n}", flags))
    notebook.run_all()
    shown = notebook.output(2)
    shown.get_by_text(re.compile(r"[1-5]\d %\|█.*\| [1-5]\d/100 .* tokens")).wait_for()
    assert "*" in notebook.prompt(2)
    # A line of the bar is one line, or it could not be rewritten.
    assert shown.locator("pre").evaluate("pre => pre.getBoundingClientRect().height") < 45
    servers.half.set()
    notebook.wait_until_done(2)
    assert "100 rows · " in shown.inner_text()
    assert "%|" not in shown.inner_text()
    # What the server said of the row that failed is text.
    assert "<img src=x onerror=pwned('row')> is refused" in shown.inner_text()
    assert notebook.page.evaluate("pwnedBy") == []


def test_view_of_a_run_over_rows(views: Notebook) -> None:
    is_run_view(views)
    assert views.output(4).locator("tbody tr").count() == 4
    assert "unhappy" in views.output(4).inner_text()
    views.select(0)
    views.photograph("run", 3, 4)


def test_run_view_of_a_reopened_notebook_is_the_same(open_notebook: Open, views: Notebook, lab: Lab) -> None:
    saved = json.loads((lab.root / "views.ipynb").read_text())
    saved["cells"][3]["source"] += " from elsewhere"
    (lab.root / "views-elsewhere.ipynb").write_text(json.dumps(saved))
    for name, is_trusted in (("views.ipynb", True), ("views-elsewhere.ipynb", False)):
        again = open_notebook(name)
        assert again.is_trusted(3) is is_trusted
        is_run_view(again)
        assert again.output(3).inner_text() == views.output(3).inner_text()


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_every_view_is_readable(views: Notebook, theme: str) -> None:
    views.theme(theme)
    views.select(0)
    if is_dark := theme.endswith("Dark"):
        views.photograph("dark", 1)
    views.photograph("error-dark" if is_dark else "error", 9)
    for index in (1, 3, 5, 6, 7, 8, 9):
        for output in views.output(index).locator(".jp-OutputArea-output").all():
            contrasts = output.evaluate(_CONTRASTS)
            assert [(index, words) for contrast, words in contrasts if contrast < 3.5] == []
    parts = {"body": (1, "p"), "link": (1, "a"), "cell": (3, "td"), "heading": (7, "th"), "error": (9, "pre")}
    for name, (index, tag) in parts.items():
        place = views.output(index).locator(f".jp-OutputArea-output {tag}").last
        assert min(contrast for contrast, _ in place.evaluate(_CONTRASTS)) >= 4.5, name


def test_names_and_keys_in_tables_are_not_broken(views: Notebook) -> None:
    for index, words in ((7, "set ANTHROPIC_API_KEY"), (5, "openai/test-model"), (6, "begins with")):
        cell = views.output(index).locator("td, th", has_text=words).first
        assert cell.evaluate("c => c.getBoundingClientRect().height") < 30


def test_tab_completes_what_is_typed(open_notebook: Open) -> None:
    columns = "import pandas as pd\ntickets = pd.DataFrame({'text': ['a'], 'the mood': ['b']})"
    notebook = open_notebook("tab.ipynb", columns, "%%aichat -m echo/echo -c history\nHi", "")
    notebook.run_all()
    notebook.wait_until_done(2)
    for typed, offered in (
        ("%%aichat --temp", "--temperature"),
        ("%%aichat -m echo/", "echo/echo"),
        ("%%aichat -c hi", "history"),
        ("%%aichat --batch ti", "tickets"),
        ("%%aichat --batch tickets --into te", "text"),
        ("%aichat us", "usage"),
        ("%aichat use echo/", "echo/echo"),
        ("%aichat switch h", "history"),
    ):
        assert offered in notebook.complete(3, typed), typed
        notebook.page.keyboard.press("Escape")
    assert "--temperature" in notebook.complete(3, "%%aichat --temp")
    notebook.page.keyboard.press("Enter")
    notebook.page.keyboard.type(" 0 -o answer")
    assert notebook.source(3) == "%%aichat --temperature 0 -o answer"


def is_typeset(notebook: Notebook) -> None:
    """Assert that formulas are formulas, and amounts of money are text."""
    reply = notebook.replies(1)
    reply.locator("mjx-container").nth(2).wait_for()
    assert reply.locator("mjx-container").count() == 3
    assert reply.locator("mjx-container[display='true']").count() == 1
    assert reply.locator("mjx-container mjx-mfrac").count() == 2
    shown = reply.inner_text()
    assert "It costs $5 and $6; inline" in shown
    assert "frac" not in shown
    assert "$$" not in shown


def test_formulas_are_typeset_and_money_is_not(rich: Notebook) -> None:
    is_typeset(rich)


def test_reopened_notebook_shows_the_replies(open_notebook: Open, rich: Notebook, lab: Lab) -> None:
    seen = rich.replies(1).inner_text()
    colours = code_colours(rich)
    saved = json.loads((lab.root / "rich.ipynb").read_text())
    saved["cells"][1]["source"] += " from elsewhere"
    (lab.root / "rich-elsewhere.ipynb").write_text(json.dumps(saved))
    for name, is_trusted in (("rich.ipynb", True), ("rich-elsewhere.ipynb", False)):
        again = open_notebook(name)
        assert again.is_trusted(1) is is_trusted
        is_typeset(again)
        assert again.replies(1).inner_text() == seen
        assert code_colours(again) == colours


def code_colours(notebook: Notebook) -> list[str]:
    """The colours in which code is shown."""
    colours = (
        notebook.replies(1).locator("pre span").evaluate_all("spans => spans.map(span => getComputedStyle(span).color)")
    )
    return sorted(set(colours))


# Colour and background of each piece of text, with all that lies below it taken into account.
_CONTRASTS = """root => {
    const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const light = c => {
        const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
        const [r, g, b] = c.slice(0, 3).map(v => linear(v / 255));
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const found = [];
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node; node = walker.nextNode();) {
        if (!node.textContent.trim() || node.parentElement.closest("mjx-assistive-mml")) continue;
        const line = [];
        for (let e = node.parentElement; e; e = e.parentElement) line.unshift(e);
        let below = [255, 255, 255, 1], opacity = 1;
        for (const e of line) {
            const style = getComputedStyle(e);
            below = over(parse(style.backgroundColor), below);
            opacity *= Number(style.opacity);
        }
        const colour = parse(getComputedStyle(node.parentElement).color);
        const [a, b] = [light(over([...colour.slice(0, 3), colour[3] * opacity], below)), light(below)];
        found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), node.textContent.trim().slice(0, 30)]);
    }
    return found;
}"""


@pytest.mark.parametrize("theme", ["JupyterLab Dark High Contrast", "JupyterLab Dark", "JupyterLab Light"])
def test_replies_are_coloured_and_readable(rich: Notebook, theme: str) -> None:
    rich.theme(theme)
    assert len(code_colours(rich)) >= 5
    for place in (rich.replies(1), rich.output(2)):
        contrasts = place.evaluate(_CONTRASTS)
        assert [(round(contrast, 2), words) for contrast, words in contrasts if contrast < 3.5] == []


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_code_stands_on_one_ground(rich: Notebook, theme: str) -> None:
    rich.theme(theme)
    grounds = (
        rich.replies(1)
        .locator("pre code")
        .evaluate_all("codes => codes.map(code => getComputedStyle(code).backgroundColor)")
    )
    assert [ground for ground in grounds if not ground.endswith(", 0)")] == []


def test_blocks_do_not_touch(rich: Notebook) -> None:
    """Two pieces of code are two boxes, and a table is no part of the code above it."""
    gaps = (
        rich.replies(1)
        .locator("pre, table")
        .evaluate_all(
            """blocks => blocks.slice(1).map((block, i) =>
            block.getBoundingClientRect().top - blocks[i].getBoundingClientRect().bottom)"""
        )
    )
    assert len(gaps) == 2
    assert min(gaps) >= 4


def test_long_lines_of_code_are_not_broken(rich: Notebook) -> None:
    rich.page.set_viewport_size({"width": 800, "height": 1500})
    try:
        assert rich.replies(1).locator("pre").first.evaluate("pre => pre.scrollWidth > pre.clientWidth")
    finally:
        rich.page.set_viewport_size({"width": 1000, "height": 1500})


@pytest.fixture(scope="module")
def everyday(lab: Lab, context: BrowserContext, servers: Servers) -> Iterator[Notebook]:
    lab.write("everyday.ipynb", ["%load_ext aichat_magic", servers.cell("everyday")])
    notebook = Notebook.open(lab, context, "everyday.ipynb")
    notebook.run_all()
    notebook.wait_until_done(1)
    notebook.replies(1).locator("pre").wait_for()
    notebook.save()
    yield notebook
    notebook.close()
    assert notebook.problems == []


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_everyday_markdown_is_shown_and_readable(everyday: Notebook, theme: str) -> None:
    """Row 103."""
    everyday.theme(theme)
    reply = everyday.replies(1)
    for words in ("<br>", "<sub>", "[x]", "[^1]", "<details>", "<kbd>"):
        assert words not in reply.inner_text()
    for element in (
        "td br",
        "sub",
        "sup",
        "kbd",
        "mark",
        "details summary",
        "a[href='https://pandas.pydata.org/docs/']",
    ):
        assert reply.locator(element).count(), element
    inside = reply.get_by_text("With fillna")
    if not inside.is_visible():
        reply.get_by_text("How it is done").click()
    inside.wait_for(state="visible")
    contrasts = reply.evaluate(_CONTRASTS)
    assert [(round(contrast, 2), words) for contrast, words in contrasts if contrast < 3.5] == []
    code = reply.locator("pre")
    assert code.evaluate("pre => pre.scrollWidth > pre.clientWidth")
    assert code.evaluate("pre => { pre.scrollLeft = 50; return pre.scrollLeft }") == 50
    assert reply.evaluate("reply => reply.scrollWidth <= reply.clientWidth")
    code.hover()
    reply.locator("button").wait_for()
    everyday.photograph(f"everyday-{theme.split()[-1].lower()}", 1)


def test_button_copies_the_code_and_nothing_else(everyday: Notebook, context: BrowserContext) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    reply = everyday.replies(1)
    reply.locator("pre").hover()
    assert reply.locator("button").count() == 1
    reply.locator("button").click()
    reply.get_by_text("Copied").wait_for()
    copied = everyday.page.evaluate("() => navigator.clipboard.readText()")
    assert copied.splitlines() == EVERYDAY.partition("```python\n")[2].partition("\n```")[0].splitlines()


def test_cleaned_output_of_an_untrusted_notebook_is_shown_without_the_button(
    open_notebook: Open, everyday: Notebook, lab: Lab
) -> None:
    saved = json.loads((lab.root / "everyday.ipynb").read_text())
    saved["cells"][1]["source"] += " from elsewhere"
    (lab.root / "everyday-elsewhere.ipynb").write_text(json.dumps(saved))
    again = open_notebook("everyday-elsewhere.ipynb")
    assert not again.is_trusted(1)
    reply = again.replies(1)
    for element in ("td br", "sub", "sup", "kbd", "mark", "details summary", "pre"):
        assert reply.locator(element).count(), element
    reply.locator("pre").hover()
    assert reply.locator("button").count() == 0
    assert reply.locator("[onmouseenter]").count() == 0
    code = reply.locator("pre")
    assert code.evaluate("pre => pre.scrollWidth > pre.clientWidth")


def test_tables_align_their_columns(rich: Notebook) -> None:
    table = rich.replies(1).locator("table")
    cells = table.locator("th, td").evaluate_all(
        "cells => cells.map(c => [c.innerText, getComputedStyle(c).textAlign])"
    )
    assert cells == [
        ["name", "left"], ["tokens", "right"], ["a", "left"], ["12", "right"], ["b", "left"], ["345", "right"],
    ]  # fmt: skip
    assert table.evaluate("t => t.getBoundingClientRect().left - t.parentElement.getBoundingClientRect().left") <= 1


def test_quickstart_runs_from_top_to_bottom(open_notebook: Open, lab: Lab, model_folder: Path) -> None:
    (lab.root / "quickstart.ipynb").write_text(QUICKSTART.read_text())
    cells = json.loads(QUICKSTART.read_text())["cells"]
    codes = [index for index, cell in enumerate(cells) if cell["cell_type"] == "code"]
    prompts = [index for index in codes if "".join(cells[index]["source"]).startswith("%%aichat")]

    notebook = open_notebook("quickstart.ipynb")
    notebook.run_all()
    notebook.wait_until_done(*codes, timeout_s=60)
    notebook.save()
    saved = json.loads((lab.root / "quickstart.ipynb").read_text())["cells"]
    assert [saved[index]["execution_count"] for index in codes] == list(range(1, len(codes) + 1))
    assert [out for index in codes for out in saved[index]["outputs"] if out["output_type"] == "error"] == []
    assert len(prompts) >= 3
    for index in prompts:
        notebook.cell(index).scroll_into_view_if_needed()
        reply, _, facts = notebook.replies(index).inner_text().rpartition("\n")
        assert reply.strip()
        assert "smollm2" in facts
    notebook.cell(0).scroll_into_view_if_needed()
    notebook.photograph("quickstart", *range(7))
