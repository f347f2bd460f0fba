"""Replies as HTML and as plain text."""

import pytest
from hypothesis import given
from safe_html import MARKDOWN, Checked

from aichat_magic.core.messages import Reply
from aichat_magic.core.usage import Usage
from aichat_magic.text.reply_view import (
    folded_thinking_html,
    growing_thinking_html,
    reply_bundle,
    reply_html,
    summary_line,
)

REPLY = Reply(
    text="Hello **you**",
    model="local/smollm2-135m",
    usage=Usage(input_tokens=31, output_tokens=54),
    elapsed_s=0.93,
)


def replaced(**changes: object) -> Reply:
    values = {name: getattr(REPLY, name) for name in ("text", "model", "usage", "elapsed_s")} | changes
    return Reply(**values)  # type: ignore[arg-type]  # the test names its own fields


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (REPLY, "local/smollm2-135m · 31 + 54 tokens · 0.9 s"),
        (replaced(usage=Usage(input_tokens=1200, output_tokens=5, cost_usd=0.00123)),
         "local/smollm2-135m · 1,200 + 5 tokens · $0.0012 · 0.9 s"),
        (replaced(usage=Usage(output_tokens=5), elapsed_s=0.0), "local/smollm2-135m · 5 tokens"),
        (replaced(usage=Usage(input_tokens=5), elapsed_s=0.0), "local/smollm2-135m · 5 input tokens"),
        (replaced(usage=Usage(cost_usd=0.0), elapsed_s=75.26), "local/smollm2-135m · $0 · 75.3 s"),
        (replaced(usage=Usage(cost_usd=12.5), model=""), "$12.50 · 0.9 s"),
        (replaced(usage=Usage(input_tokens=3, output_tokens=500, reasoning_tokens=480, cached_tokens=2)),
         "local/smollm2-135m · 3 + 500 tokens (2 cached, 480 thinking) · 0.9 s"),
        (replaced(usage=Usage(output_tokens=500, reasoning_tokens=480)),
         "local/smollm2-135m · 500 tokens (480 thinking) · 0.9 s"),
        (replaced(usage=Usage(reasoning_tokens=480)), "local/smollm2-135m · 0.9 s"),
        (replaced(model="openai/gpt-5-mini", model_version="gpt-5-mini-2025-08-07"),
         "openai/gpt-5-mini (gpt-5-mini-2025-08-07) · 31 + 54 tokens · 0.9 s"),
        (replaced(model="openrouter/lab/m", model_version="lab/m via DeepInfra"),
         "openrouter/lab/m (via DeepInfra) · 31 + 54 tokens · 0.9 s"),
        (replaced(model_version="smollm2-135m"), "local/smollm2-135m · 31 + 54 tokens · 0.9 s"),
        (replaced(model="gemini/flash", model_version="models/flash"), "gemini/flash · 31 + 54 tokens · 0.9 s"),
        (replaced(model="a/b", model_version="evil\x1b[2J\nmodel"), "a/b (evil[2J model) · 31 + 54 tokens · 0.9 s"),
        (replaced(finish_reason="length"), "local/smollm2-135m · 31 + 54 tokens · 0.9 s · cut by max_tokens"),
        (replaced(finish_reason="interrupted"), "local/smollm2-135m · 31 + 54 tokens · 0.9 s · interrupted"),
        (replaced(model="evil\x1b[2J\nmodel"), "evil[2J model · 31 + 54 tokens · 0.9 s"),
        (Reply(text="x"), "a reply"),
    ],
)  # fmt: skip
def test_summary_line_says_what_is_known(reply: Reply, line: str) -> None:
    assert summary_line(reply) == line


def test_bundle_has_safe_html_with_a_footer_and_plain_text() -> None:
    bundle = reply_bundle(REPLY)
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == "Hello **you**"
    assert "<strong>you</strong>" in bundle["text/html"]
    assert Checked(bundle["text/html"]).text.endswith(summary_line(REPLY))
    assert REPLY._repr_mimebundle_() == bundle


@pytest.mark.parametrize("reason", ["interrupted", "truncated", "length", "content_filter"])
def test_reply_that_is_not_whole_is_marked(reason: str) -> None:
    html = reply_bundle(replaced(finish_reason=reason))["text/html"]
    assert "⚠" in html
    assert "⚠" not in reply_bundle(REPLY)["text/html"]


@pytest.mark.parametrize(
    "text", ["", "a", "**a**", "```py\nx", "|a|\n|-|\n|b|", "$x$", "---", "- a\n  - b", "x" * 90_000]
)
def test_cursor_stands_at_the_end_of_a_growing_text(text: str) -> None:
    checked = Checked(reply_html(text, is_growing=True))
    assert checked.text.rstrip().endswith("▍")


def test_lone_surrogate_and_nul_are_replaced() -> None:
    bundle = reply_bundle(Reply(text="a\ud800b\0c `\udfff` ```\ud83d", model="m\ud800"))
    assert "a\ufffdb\ufffdc" in bundle["text/html"]
    assert bundle["text/plain"].startswith("a\ufffdbc")
    for content in bundle.values():
        content.encode()


# Thinking ---------------------------------------------------------------------------------------------------------


def test_thinking_is_folded_above_the_text_and_in_no_plain_text() -> None:
    bundle = reply_bundle(replaced(thinking="Hm, **so**.", usage=Usage(reasoning_tokens=1234, output_tokens=1300)))
    checked = Checked(bundle["text/html"])
    assert [list(attributes) for tag, attributes in checked.seen if tag == "details"] == [["style"]]
    assert checked.text.index("Thinking (1,234 tokens)") < checked.text.index("Hm, so.") < checked.text.index("Hello")
    assert bundle["text/plain"] == "Hello **you**"
    assert "Thinking" not in reply_bundle(REPLY)["text/html"]
    assert "Thinking" not in reply_bundle(replaced(thinking=" \n"))["text/html"]
    assert ">Thinking<" in reply_bundle(replaced(thinking="Hm."))["text/html"]


@given(MARKDOWN)
def test_any_thinking_gives_only_tags_attributes_and_addresses_of_ours(thinking: str) -> None:
    Checked(reply_html("x", fold=folded_thinking_html(thinking)))
    Checked(reply_html("", fold=growing_thinking_html(thinking)))


def test_growing_thinking_is_open_and_shows_its_newest_part_only() -> None:
    html = growing_thinking_html("word " * 5_000 + "newest")
    assert "<details open" in html
    assert len(html) < 3_000
    text = Checked(html).text
    assert text.startswith("Thinking …")
    assert text.rstrip().endswith("newest")
    assert "… word" in text
    assert "… " not in growing_thinking_html("all of it").partition("</summary>")[2]


def test_saved_thinking_has_a_limit_and_says_what_it_left_out() -> None:
    html = folded_thinking_html("word " * 20_000)
    assert len(html) < 52_000
    assert "… 50,000 more characters are in the reply" in html
