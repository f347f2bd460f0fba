"""Conversations as files: what is written is all there, shows nothing it should not, and comes back."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aichat_magic.core.errors import BadInputError, ConfigError
from aichat_magic.core.messages import FinishReason, Reply
from aichat_magic.core.usage import Usage
from aichat_magic.magic import export as transcripts
from aichat_magic.magic.export import export, from_json, read, to_json, to_markdown, to_notebook
from aichat_magic.store.records import StoredTurn, TurnRecord

USAGE = Usage(input_tokens=3, output_tokens=5, cached_tokens=0, cache_write_tokens=2, reasoning_tokens=4, cost_usd=0.25)


def turn(prompt: str = "Hi", text: str = "Hello", **changes: Any) -> StoredTurn:
    reply = Reply(text=text, model="echo/m", usage=USAGE, elapsed_s=1.5)
    return StoredTurn(**{"id": 1, "prompt": prompt, "reply": reply, "cell_id": "", "created": 1e9, **changes})


def parts_of(markdown: str, kind: str) -> list[Any]:
    """The tokens of a kind, as a viewer that knows HTML sees them."""
    tokens = MarkdownIt("commonmark", {"html": True, "maxNesting": 100}).enable("table").parse(markdown)
    flat = [token for block in tokens for token in (block, *(block.children or ()))]
    return [token for token in flat if token.type == kind]


def headings(markdown: str) -> list[str]:
    lines = markdown.split("\n")
    return [lines[token.map[0]] for token in parts_of(markdown, "heading_open") if token.level == 0]


# Markdown


def test_markdown_shows_prompts_word_for_word_and_replies_as_markdown() -> None:
    shown = to_markdown("plans", "Be brief.", [turn("What is *this*?\n<b>", "A **bold** one\n\n```py\nx<int>\n```")])
    assert shown.startswith("# Conversation plans\n\nSystem message:\n\n```text\nBe brief.\n```\n\n## 1. 2001-09-")
    assert "```text\nWhat is *this*?\n<b>\n```" in shown
    assert "A **bold** one\n\n```py\nx<int>\n```" in shown
    assert "*echo/m · 3 + 5 tokens" in shown


@pytest.mark.parametrize("prompt", ["```\ncode\n```", "````x", "~~~\n", "a\n```", "`" * 50, "\n\n", "", "    x"])
def test_no_prompt_gets_out_of_its_block(prompt: str) -> None:
    shown = to_markdown("n", "", [turn(prompt), turn("second")])
    assert [token.content for token in parts_of(shown, "fence")] == [f"{prompt}\n", "second\n"]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nx = 1",
        "~~~~\n```\n",
        "- a\n  ```\n  x",
        "> ```\n> x",
        "```",
        "a\n```\nb\n```\n````\nc",
        "```\r\nx\r\n",
    ],
)
def test_open_code_block_of_a_reply_is_closed(text: str) -> None:
    shown = to_markdown("n", "", [turn("first", text), turn("second", "end")])
    assert len(headings(shown)) == 3
    assert parts_of(shown, "fence")[-1].content == "second\n"


@pytest.mark.parametrize(
    "text",
    [
        '<img src="http://evil.example/x.png">',
        "<script>alert(1)</script>",
        "text <b onclick=x>",
        "<!-- comment",
        "<?php",
        "![alt](http://evil.example/x.png)",
        "![alt][ref]\n\n[ref]: http://evil.example/x.png",
        "- ```\n<img src=x>",
        "` a\n` <img src=x> `",
        "` a\n\n` ![x](http://evil.example) ` b",
        "`` ` <img src=x> `",
        "\\` <img src=x> `",
        "| a |\n| --- |\n| <img src=x> |",
        "> <div>\n\n    <img src=x>",
        "```x\n```\n<img src=x>",
        "a\r<img src=x>",
        "[![x](http://evil.example)](http://evil.example)",
        "> " * 200 + "<img src=x>",
        "x" * 90_000 + "<img src=x>",
    ],
)
def test_no_reply_becomes_markup(text: str) -> None:
    for shown in (to_markdown("n", "", [turn("p", text)]), notebook_of(turn("p", text)).cells[-1].source):
        assert parts_of(shown, "html_block") + parts_of(shown, "html_inline") + parts_of(shown, "image") == []


@settings(deadline=None)
@given(st.text(st.sampled_from("`~<>![]()a/ \n\t->\\|*")), st.text(st.sampled_from("`~ab\n ")))
def test_no_reply_and_no_prompt_breaks_the_page(text: str, prompt: str) -> None:
    shown = to_markdown("n", "", [turn(prompt, text), turn("second", "end")])
    assert parts_of(shown, "html_block") + parts_of(shown, "html_inline") + parts_of(shown, "image") == []
    fences = parts_of(shown, "fence")
    assert fences[0].content == f"{prompt}\n"
    assert fences[-1].content == "second\n"
    assert [line[:10] for line in headings(shown) if "2001" in line] == ["## 1. 2001", "## 2. 2001"]


def test_code_in_replies_stays_as_it_is() -> None:
    code = "Use `vector<int>` and <https://example.org>:\n\n1. one\n   ```cpp\n   vector<int> x; // ![a](b)\n   ```\n"
    assert code.strip() in to_markdown("n", "", [turn("p", code)])


def test_names_and_models_are_one_line_of_text() -> None:
    reply = Reply(text="a", model="x<script>\n# head")
    shown = to_markdown("n\n# <img src=x>", "", [turn(reply=reply)])
    assert len(headings(shown)) == 2
    assert parts_of(shown, "html_inline") == []


@pytest.mark.parametrize("created", [0.0, 1e300, 1e15])
def test_any_time_can_be_shown(created: float) -> None:
    assert "## 1. " in to_markdown("n", "", [turn(created=created)])


# JSON


def test_json_comes_back(tmp_path: Path) -> None:
    turns = [
        turn("a\ud800\x00", "é😀", options={"temperature": 0, "stop": ["x"]}, cell_id="c1", notebook="/n.ipynb"),
        turn(reply=Reply(text="", model="m", finish_reason="length")),
    ]
    text = to_json("name", "system\udfff", turns)
    assert text.isascii()
    system, records = from_json(text)
    assert system == "system\udfff"
    assert records == [
        TurnRecord(
            prompt=one.prompt,
            reply=one.reply,
            options=one.options,
            cell_id=one.cell_id,
            notebook=one.notebook,
            created=1e9,
        )
        for one in turns
    ]
    assert read(export(tmp_path / "x.json", "name", "system\udfff", turns)) == (system, records)
    assert json.loads(text)["version"] == 1


def test_fields_that_are_not_known_are_passed_over() -> None:
    document = json.loads(to_json("n", "", [turn(options={"temperature": 1})]))
    document["more"] = document["turns"][0]["more"] = 1
    document["turns"][0]["options"]["surprise"] = {"a": 1}
    (record,) = from_json(json.dumps(document))[1]
    assert record.options == {"temperature": 1}
    document["turns"] = [{"prompt": "p", "reply": "r"}]
    assert from_json(json.dumps(document))[1] == [TurnRecord(prompt="p", reply=Reply(text="r"), created=0.0)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' * 100_000, "not valid JSON"),
        ("9" * 10_000, "not valid JSON"),
        ("[]", "not an exported conversation"),
        ("null", "not an exported conversation"),
        ('{"cells": []}', "not an exported conversation"),
    ],
)
def test_other_files_are_refused(text: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        from_json(text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "newer version"),
        ({"version": True}, "version must be a whole number"),
        ({"version": None}, "version must be"),
        ({"system": 5}, "system must be text"),
        ({"turns": {}}, "turns must be a list"),
        ({"turns": [5]}, "Turn 1 of the file must be an object"),
        ({"turns": [{}]}, "reply must be text"),
        ({"prompt": ["x"]}, "Turn 1 of the file: prompt must be text"),
        ({"reply": None}, "reply must be text"),
        ({"model": 1}, "model must be text"),
        ({"finish_reason": "cos\nsystem"}, "finish_reason must be one of"),
        ({"finish_reason": "truncated"}, "Only whole turns"),
        ({"elapsed_s": "1"}, "elapsed_s must be a number"),
        ({"elapsed_s": float("nan")}, "elapsed_s must be a number"),
        ({"elapsed_s": True}, "elapsed_s must be a number"),
        ({"created_s": float("inf")}, "created_s must be a number"),
        ({"created_s": -1}, "created_s must be a number"),
        ({"usage": []}, "usage must be an object"),
        ({"usage": {"input_tokens": 1.5}}, "input_tokens must be a whole number"),
        ({"usage": {"input_tokens": True}}, "input_tokens must be a whole number"),
        ({"usage": {"output_tokens": 2**64}}, "output_tokens must be a whole number"),
        ({"usage": {"reasoning_tokens": "1"}}, "reasoning_tokens must be a whole number"),
        ({"model_version": 1}, "model_version must be text"),
        ({"usage": {"cost_usd": -1}}, "cost_usd must be a number"),
        ({"options": "x"}, "options must be an object"),
        ({"options": {"temperature": 9}}, "temperature must be between"),
        ({"options": {"temperature": 10**400}}, "Turn 1 of the file: "),
        ({"options": {"temperature": {}}}, "temperature must be a number"),
        ({"options": {"stop": [1]}}, "stop must be"),
        ({"options": {"schema": 5}}, "schema must be text"),
        ({"cell_id": {}}, "cell_id must be text"),
        ({"notebook": 0}, "notebook must be text"),
    ],
)
def test_wrong_values_are_refused_and_named(changes: dict[str, Any], words: str) -> None:
    document = json.loads(to_json("n", "", [turn()]))
    place = document if changes.keys() <= document.keys() else document["turns"][0]
    place.update(changes)
    with pytest.raises(BadInputError, match=words):
        from_json(json.dumps(document))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(json.loads(to_json("n", "", [turn()]))["turns"][0])), values)
def test_any_value_is_taken_or_refused(name: str, value: Any) -> None:
    document = json.loads(to_json("n", "", [turn()]))
    document["turns"][0][name] = value
    try:
        ((record,)) = from_json(json.dumps(document))[1]
    except BadInputError:
        return
    assert isinstance(record.prompt, str)


def test_too_many_turns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "_MOST_TURNS", 1)
    with pytest.raises(BadInputError, match="has 2 turns"):
        from_json(to_json("n", "", [turn(), turn()]))


# Notebooks


def notebook_of(*turns: StoredTurn, system: str = "") -> Any:
    document = nbformat.reads(to_notebook("name", system, turns), as_version=nbformat.NO_CONVERT)
    nbformat.validate(document)
    return document


def test_notebook_has_a_cell_for_each_prompt_and_each_reply() -> None:
    found = notebook_of(turn("First {x}?\n  indented\n"), turn("Second", "**Yes**"), system="It's brief.")
    assert (found.nbformat, found.nbformat_minor) == (4, 5)
    assert [(cell.cell_type, cell.id) for cell in found.cells] == [
        ("markdown", "head"),
        ("code", "load"),
        ("code", "prompt-1"),
        ("markdown", "reply-1"),
        ("code", "prompt-2"),
        ("markdown", "reply-2"),
    ]
    assert found.cells[1].source == "%load_ext aichat_magic"
    assert found.cells[2].source == "%%aichat --raw --system 'It'\"'\"'s brief.'\nFirst {x}?\n  indented\n"
    assert found.cells[4].source == "%%aichat --raw\nSecond"
    assert found.cells[5].source.startswith("**Yes**\n\n*echo/m")
    assert all(cell.outputs == [] and cell.execution_count is None for cell in found.cells if cell.cell_type == "code")


def test_notebook_never_runs_what_a_system_message_says() -> None:
    found = notebook_of(turn(), system="Be brief.\n!rm -rf x\n```\n<img src=x>")
    assert found.cells[2].source == "%%aichat --raw\nHi"
    assert parts_of(found.cells[0].source, "html_block") == []


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\u2028x\x85y\x0cz", ""])
def test_notebook_holds_any_text(text: str) -> None:
    found = notebook_of(turn(text, text))
    assert found.cells[2].source == "%%aichat --raw\n" + text.replace("\ud800", "\ufffd")
    json.dumps(found).encode("utf-8")


def test_cell_of_the_notebook_is_read_as_it_was_written() -> None:
    from aichat_magic.magic.arguments import parse_cell

    system = 'Don\'t {x} $HOME \\ "quoted" --model evil'
    line = notebook_of(turn(), system=system).cells[2].source.split("\n")[0].removeprefix("%%aichat")
    parsed = parse_cell(line.strip())
    assert (parsed.given.system, parsed.given.model, parsed.is_raw) == (system, "", True)


# Files


@pytest.mark.parametrize("name", ["x.md", "x.json", "x.ipynb", "X.JSON"])
def test_suffix_decides(tmp_path: Path, name: str) -> None:
    written = export(str(tmp_path / name), "n", "s", [turn()])
    assert written == tmp_path / name
    text = written.read_text("utf-8")
    assert {"x.md": text.startswith("# "), "x.ipynb": "nbformat" in text}.get(name, transcripts.FORMAT in text)


@pytest.mark.parametrize("name", ["x.txt", "x", ".json", "x.jsn"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match=r"\.md, \.json, \.ipynb"):
        export(tmp_path / name, "n", "", [])
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text("precious")
    with pytest.raises(BadInputError, match="already exists"):
        export(path, "n", "", [turn()])
    assert path.read_text() == "precious"
    path.chmod(0o640)
    export(path, "n", "", [turn()], force=True)
    assert path.read_text().startswith("# Conversation")
    assert os.name != "posix" or stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_folder_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.md").mkdir()
    with pytest.raises(BadInputError, match="already exists"):
        export(tmp_path / "x.md", "n", "", [], force=True)


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        export(tmp_path / "none" / "x.md", "n", "", [])


def test_name_that_is_too_long_for_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        export(tmp_path / ("x" * 300 + ".md"), "n", "", [])


def test_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be the name of a file"):
        export(tmp_path / "a\0.md", "n", "", [])
    with pytest.raises(BadInputError, match="no file"):
        read(tmp_path / "a\0.json")


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX")
def test_what_a_link_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "link.md").symlink_to(tmp_path / "real.md")
    for force in (False, True):
        assert export(tmp_path / "link.md", "n", "", [turn()], force=force) == tmp_path / "real.md"
    assert (tmp_path / "link.md").is_symlink()


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="no file"):
        read(tmp_path / "x.json")
    with pytest.raises(BadInputError, match="no file"):
        read(tmp_path)
    with pytest.raises(BadInputError, match=r"Only \.json"):
        read(tmp_path / "x.md")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(BadInputError, match="UTF-8"):
        read(tmp_path / "x.json")
    monkeypatch.setattr(transcripts, "_LARGEST_FILE", 2)
    with pytest.raises(BadInputError, match="larger"):
        read(tmp_path / "x.json")


def test_file_with_a_mark_of_its_order_of_bytes_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + to_json("n", "s", [turn()]).encode())
    assert read(tmp_path / "x.json")[0] == "s"


def test_every_reason_to_finish_is_known() -> None:
    for reason in ("stop", "length", "content_filter"):
        known: FinishReason = reason  # type: ignore[assignment]  # one of the literals
        (record,) = from_json(to_json("n", "", [turn(reply=Reply(text="a", finish_reason=known))]))[1]
        assert record.reply.finish_reason == reason
