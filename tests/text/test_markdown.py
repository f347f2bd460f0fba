"""What a model wrote, made safe to show."""

import re

import pytest
from effort import times_as_much_cpu
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safe_html import HOSTILE, MARKDOWN, Checked

from aichat_magic.core.messages import Message, Reply
from aichat_magic.core.usage import Usage
from aichat_magic.text import markdown
from aichat_magic.text.characters import terminal_text
from aichat_magic.text.reply_view import reply_bundle, reply_html, summary_line
from aichat_magic.text.widgets import Cell, Note, Table, Transcript
from aichat_magic.text.wrap import text_width


def hrefs(html: str) -> list[str]:
    return [attrs["href"] for tag, attrs in Checked(html).seen if tag == "a"]


def formulas(text: str) -> list[str]:
    return Checked(reply_html(text)).formulas


# Safety ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_a_reply_stays_text(text: str) -> None:
    Checked(reply_html(text))
    Checked(reply_html(text, header=[text], footer=text, mark=text, is_growing=True))


def test_escaped_markup_is_shown_letter_by_letter() -> None:
    assert Checked(reply_html("<img src=x onerror=alert(1)>")).text.strip() == "<img src=x onerror=alert(1)>"


@given(MARKDOWN)
@example("\ud800[x](http://\ud800)")
@example("[x](https://a\x00b)")
@settings(max_examples=300, deadline=None)
def test_any_text_gives_only_tags_attributes_and_addresses_of_ours(text: str) -> None:
    html = reply_html(text)
    Checked(html).text.encode()
    Checked(reply_html(text, header=[text], footer=text, mark=text, is_growing=True))
    assert "\0" not in html


@given(st.text(), st.sampled_from(sorted(markdown._LANGUAGES)))
@settings(max_examples=100, deadline=None)
def test_coloured_code_keeps_every_character(code: str, language: str) -> None:
    cleaned = terminal_text(code)
    html = markdown._highlighted(cleaned, language)
    assert Checked(f"<pre>{html}</pre>").text == cleaned


def test_markdown_goes_on_between_escaped_tags() -> None:
    assert "<strong>x</strong>" in reply_html("<div>\n**x**\n</div>")


# Links and images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "&#106;avascript:alert(1)", "&#x6A;avascript&colon;alert(1)",
        "java&Tab;script:alert(1)", "java&NewLine;script:alert(1)", "vbscript:x", "data:text/html,x",
        "data:text/html;base64,eA==", "file:///etc/passwd", "//example.org/x", "/api/kernels", "x.ipynb", "#x",
        "https:x", "http:\\\\example.org", "blob:https://example.org/x", "\x01javascript:alert(1)", "ftp://example.org",
        "command:workbench.action.terminal.new", "vscode://file/x",
    ],
)  # fmt: skip
def test_links_elsewhere_than_the_web_or_mail_stay_text(target: str) -> None:
    text = f"[x]({target}) [y](<{target}>) <{target}>\n\n[z]\n\n[z]: {target}"
    assert hrefs(reply_html(text)) == []
    assert "z" in Checked(reply_html(text)).text


def test_links_to_the_web_and_to_mail_are_links_that_tell_nothing() -> None:
    html = reply_html("[x](https://example.org/a?b=1&c=2) <http://example.org> [m](mailto:a@example.org)")
    assert hrefs(html) == ["https://example.org/a?b=1&c=2", "http://example.org", "mailto:a@example.org"]
    assert html.count('rel="noopener noreferrer nofollow"') == html.count('target="_blank"') == 3


def test_images_are_shown_as_text_and_not_fetched() -> None:
    html = reply_html("![a *plot*](https://example.org/p.png?q=secret) ![](data:image/png;base64,eA==)")
    assert "[image: a plot] (https://example.org/p.png?q=secret)" in Checked(html).text
    assert hrefs(html) == []


# Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown_becomes_elements() -> None:
    html = reply_html("# T\n\n**b** *i* ~~s~~ `c`\n\n- x\n\n3. y\n\n> q\n\n---\n\n|a|b|\n|-|-:|\n|1|2|")
    tags = {tag for tag, _ in Checked(html).seen}
    assert tags >= {"h1", "strong", "em", "s", "code", "ul", "ol", "blockquote", "hr", "table", "th", "td"}
    assert '<ol start="3">' in html


def test_cells_without_an_alignment_are_aligned_to_the_left() -> None:
    html = reply_html("|a|b|\n|-|-:|\n|1|2|")
    assert '<td style="text-align:left;padding:0.2em 0.7em">1</td>' in html
    assert '<td style="text-align:right;padding:0.2em 0.7em">2</td>' in html


def test_code_of_a_known_language_is_coloured_and_of_others_plain() -> None:
    assert '<span style="color:#ad5cc9">def</span>' in reply_html("```python\ndef f(): pass\n```")
    assert "<span" not in reply_html("```nonsense\ndef f(): pass\n```")
    assert "<span" not in reply_html("```\ndef f(): pass\n```")


def test_long_code_is_not_coloured() -> None:
    assert "<span" not in reply_html("```python\n" + "x = 1\n" * 10_000 + "```")


def test_colours_are_readable_on_light_and_on_dark() -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    colours = set(re.findall("#[0-9a-f]{6}", " ".join(style for _, style in markdown._TOKEN_STYLES)))
    assert colours
    for colour in colours:
        for background in ("#ffffff", "#f7f7f7", "#1e1e1e", "#111111"):
            bright, dark = sorted((luminance(colour), luminance(background)), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) > 3.7, (colour, background)


def test_styles_pass_the_sanitizer_of_untrusted_notebooks() -> None:
    html = reply_html("```python\nx = 1 # c\n```\n\n|a|\n|-|\n|1|", footer="f", mark="m")
    styles = [attrs["style"] for _, attrs in Checked(html).seen if "style" in attrs]
    assert styles
    assert "<style" not in html
    assert not [style for style in styles if "var(" in style or "url" in style]


# Formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so $a_1 * b_2$ is", ["$a_1 * b_2$"]),
        ("so $x$.", ["$x$"]),
        (r"so \(a_i^* b_j^*\) is", [r"\(a_i^* b_j^*\)"]),
        (r"so \[x_1 \\ y\] is", [r"\[x_1 \\ y\]"]),
        ("so $$x^2$$ is", ["$$x^2$$"]),
        (r"$a \$ b$", [r"$a \$ b$"]),
        ("$`x_1`$", ["$x_1$"]),
        ("$a < b$ and $b > c$", ["$a < b$", "$b > c$"]),
        ("$$\na_1 \\\\\n= b_1\n- c\n$$", ["$$a_1 \\\\\n= b_1\n- c$$"]),
        ("text\n$$\nx = 1\n$$\nmore", ["$$x = 1$$"]),
        ("\\[\nx = 1\n\\]", ["\\[x = 1\\]"]),
        ("- item\n  \\[\n  x_1 + *a*\n  \\]\n- b", ["\\[x_1 + *a*\\]"]),
        ("> $$\n> x_1\n> $$", ["$$x_1$$"]),
        ("$$x = 1$$.", ["$$x = 1.$$"]),
        (
            "\\begin{align*}\na &= b \\\\\nc &= d\n\\end{align*}",
            ["\\begin{align*}\na &= b \\\\\nc &= d\n\\end{align*}"],
        ),
        ("```math\nx_1\n```", ["$$x_1$$"]),
        ("```math\n\\[x_1\\]\n```", ["\\[x_1\\]"]),
        (r"$x \label{eq:1}$", ["$x $"]),
        ("\\[a_1\n\\[b_1\n\\]", ["\\[b_1\\]"]),
        (r"**bold $x_1$** _and $y_1$_", ["$x_1$", "$y_1$"]),
    ],
)
def test_formulas_reach_the_typesetter_untouched(text: str, found: list[str]) -> None:
    assert formulas(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $6.", "From $5,000 to $6,000", "$5-$6", "$20 or 30$", r"\$x\$ and \(5", "US$ and C$ ",
        "`$x$` and `\\(x\\)`", "```\n$x$\n\\[x\\]\n```", "    $x$", "one $ only", "$ x $", "$$", "$$$$", "$$$", "$",
        r"\[1\] and \[sic\]", "$$ and $$ places", r"\\(x\\)", "\\begin{align}", "$$x", r"\[x", r"$x\$", "$5 `$x`",
    ],
)  # fmt: skip
def test_money_and_code_are_not_formulas(text: str) -> None:
    assert formulas(text) == []


def test_typesetter_is_kept_out_of_all_but_formulas() -> None:
    assert reply_html("$5").startswith('<div class="aichat-reply tex2jax_ignore mathjax_ignore"')
    assert 'class="aichat-reply tex2jax_ignore mathjax_ignore"' in reply_bundle(Reply(text="$5"))["text/html"]
    assert "mathjax_ignore" in Note("$5")._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    "tex",
    [
        r"\href{javascript:alert(1)}{x}", r"\url{https://example.org}", r"\class{a}{x}", r"\cssId{a}{x}",
        r"\style{position:fixed}{x}", r"\htmlStyle{a}{b}", r"\htmlData{a=b}{x}", r"\data{a=b}{x}", r"\require{html}",
        r"\includegraphics{https://example.org/x}", r"\mmlToken{mi}[href=x]{x}", r"\def\a{x}", r"\newcommand{\a}{x}",
        r"\renewcommand\frac{x}", r"\let\a\b", r"\bbox[border:1px]{x}", r"\href %" + "\n{x}{y}", r"\eqref{x}",
    ],
)  # fmt: skip
def test_commands_that_could_do_more_than_typeset_are_shown_as_code(tex: str) -> None:
    for text in (f"${tex}$", f"\\({tex}\\)", f"$$\n{tex}\n$$", f"\\[{tex}\\]", f"```math\n{tex}\n```",
                 f"\\begin{{align}}\n{tex}\n\\end{{align}}"):  # fmt: skip
        checked = Checked(reply_html(text))
        assert checked.formulas == []
        assert tex.split("{")[0].split("%")[0].strip() in checked.text


def test_commands_with_a_similar_name_are_typeset() -> None:
    assert formulas(r"$\left( x \right) \leftarrow \reflectbox{a} \datum$")


# Hostile sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[" * 80_000, "![" * 40_000, ">" * 80_000, "*" * 80_000, "*a" * 40_000, "`a" * 40_000, "[a](" * 20_000,
        "$a " * 26_000, "\\[x\n" * 20_000, "\\(" * 40_000, "\\begin{align}\n" * 5_000, "- " * 40_000, "[a][" * 20_000,
        "".join("  " * depth + "- a\n" for depth in range(250)), "|" * 80_000, "<a " * 26_000, "\\" * 80_000,
    ],
)  # fmt: skip
def test_pathological_text_costs_little_more_than_ordinary_text_of_its_length(text: str) -> None:
    """At most 7 times as much when this was written; what is quadratic takes thousands of times as much."""
    ordinary = ("Some words of *plain* text, and `code` in it.\n\n" * 2_000)[: len(text)]
    assert times_as_much_cpu(lambda: reply_html(text), lambda: reply_html(ordinary), rounds=2) < 100
    Checked(reply_html(text))


def test_paragraphs_after_thousands_of_brackets_stay_text() -> None:
    assert "<strong>" in reply_html("[" * 100 + "\n\n**x**")
    assert "**x**" in reply_html("[" * 6_000 + "\n\n**x**")


def test_text_too_long_for_markdown_is_shown_as_it_is() -> None:
    text = "**x** <b> " * 10_000
    assert Checked(reply_html(text)).text.strip() == text.strip()


def test_text_nested_too_deeply_is_shown_as_it_is() -> None:
    text = "> " * 200 + "deep"
    assert Checked(reply_html(text)).text.strip() == text


def test_lists_of_twenty_levels_are_rendered() -> None:
    html = reply_html("".join("  " * depth + f"- level{depth}\n" for depth in range(20)))
    assert html.count("<li>") == 20


def test_parser_that_fails_leaves_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RecursionError

    monkeypatch.setattr(markdown, "_parser", fail)
    assert Checked(reply_html("**x** <b>")).text.strip() == "**x** <b>"


def test_lone_surrogate_and_nul_are_replaced() -> None:
    bundle = reply_bundle(Reply(text="a\ud800b\0c `\udfff` ```\ud83d", model="m\ud800"))
    assert "a\ufffdb\ufffdc" in bundle["text/html"]
    assert bundle["text/plain"].startswith("a\ufffdbc")
    for content in bundle.values():
        content.encode()


# Terminal ---------------------------------------------------------------------------------------------------------

FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", "]52;c;aGk="),
        ("\x1b]8;;https://example.org\x1b\\x", "]8;;https://example.org\\x"),
        ("\x1b[2J\x1b[31mred", "[2J[31mred"),
        ("\x9b31m\x90q\x9c", "31mq"),
        ("a\u202eb\u2066c\u200fd\u061ce", "abcde"),
        ("a\r\nb\rc\x08d\x7f", "a\nbcd"),
        ("tab\tline\n", "tab\tline\n"),
        ("héllo 日本 👩\u200d🔬", "héllo 日本 👩\u200d🔬"),
        ("\ud800", "\ufffd"),
    ],
)
def test_terminal_gets_no_control_sequence(text: str, shown: str) -> None:
    assert terminal_text(text) == shown


@given(st.lists(st.text(st.characters()) | st.sampled_from(["\x1b", "[31m", "\x9b", "]52;c;", "\x07", "\ud800"])))
def test_terminal_text_is_clean_and_the_same_in_pieces(pieces: list[str]) -> None:
    whole = terminal_text("".join(pieces))
    assert not FORBIDDEN.search(whole)
    assert "".join(map(terminal_text, pieces)) == whole


# Replies ----------------------------------------------------------------------------------------------------------

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


# Tables, notes, transcripts ---------------------------------------------------------------------------------------


def test_table_is_aligned_plain_text() -> None:
    table = Table("Usage", ("model", "tokens", "cost"), (("a", 12345, 0.0012), ("longer", 7, None)), "since noon")
    assert str(table).splitlines() == [
        "Usage",
        "model   tokens    cost",
        "------  ------  ------",
        "a       12,345  0.0012",
        "longer       7",
        "since noon",
    ]


def test_table_without_headings_has_no_line_of_them() -> None:
    assert str(Table("", ("", ""), (("a", "b"),))) == "a  b"
    assert "<th" not in Table("", ("", ""), (("a", "b"),))._repr_mimebundle_()["text/html"]


def test_table_without_rows_shows_its_headings() -> None:
    assert str(Table("T", ("a", "b"), (), "none")) == "T\na  b\n-  -\nnone"
    Checked(Table("T", ("a", "b"), ())._repr_mimebundle_()["text/html"])


CELLS = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(st.characters(), max_size=120), st.sampled_from(HOSTILE)
)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4), st.text(st.characters(), max_size=20))
@settings(deadline=None)
def test_any_table_is_clean_and_three_lines_a_row_at_most(rows: list[tuple[Cell, ...]], title: str) -> None:
    table = Table(title, ("<b>", "x\n\x1b", "$y$"), tuple(rows), title)
    bundle = table._repr_mimebundle_()
    Checked(bundle["text/html"])
    assert not FORBIDDEN.search(bundle["text/plain"])
    n_rows = len([row for row in rows if any(cell is not None and f"{cell}".strip() for cell in row)])
    assert len(bundle["text/plain"].split("\n")) <= 4 + 3 * len(rows)
    assert len(bundle["text/plain"].split("\n")) >= 2 * bool(n_rows)


@given(st.lists(st.tuples(st.text(max_size=200), st.text(max_size=200), st.integers(0, 10**9)), min_size=1, max_size=4))
@settings(deadline=None)
def test_table_fits_eighty_columns(rows: list[tuple[str, str, int]]) -> None:
    lines = str(Table("", ("model", "address", "tokens"), tuple(rows), "a note of many words " * 9)).split("\n")
    assert max(map(text_width, lines)) <= 80


def test_long_names_take_several_lines_and_are_not_cut() -> None:
    model = "openrouter/anthropic/claude-sonnet-4.5-20250929"
    rows = ((model, "a conversation with a name", 12, 3456, 7890, "unknown", "██████"),)
    table = Table("Usage", ("model", "conversation", "replies", "in", "out", "cost", "share"), rows)
    lines = str(table).split("\n")
    assert max(map(text_width, lines)) <= 80
    assert len(lines) <= 6
    place = lines[1].index("conversation")
    assert "".join(line[:place].strip() for line in lines[3:]) == model
    assert "…" not in str(table)
    html = table._repr_mimebundle_()["text/html"]
    assert f">{model}</td>" in html


def test_text_beyond_the_last_line_of_a_cell_ends_in_an_ellipsis() -> None:
    lines = str(Table("", ("a", "b"), (("x", "word " * 200),), max_lines=2)).split("\n")
    assert [len(line) <= 80 for line in lines] == [True] * 4
    assert lines[-1].endswith("word…")


def test_column_without_a_cell_is_left_out() -> None:
    table = Table("", ("name", "state", "place"), (("a", "", "here"), ("b", "", "there")))
    assert str(table).split("\n")[0].split() == ["name", "place"]
    assert "state" not in table._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    "text", ["```\na\n\n![x](https://example.org/x.png)\n```", "    a\n\n\n   \n    ![b](https://example.org/b.png)\n"]
)
def test_html_holds_no_blank_line_at_which_markdown_would_go_on(text: str) -> None:
    """In a notebook that became Markdown, what follows a blank line is no HTML any more."""
    html = reply_html(text)
    assert "\n\n" not in re.sub(r"[^\S\n]", "", html)
    assert "![" in Checked(html).text
    assert "a\n\n" in Checked(html).text


def test_note_is_clean_text_on_one_line_or_several() -> None:
    note = Note("a <b>\x1b[31m\n  --flag")
    assert str(note) == "a <b>[31m\n  --flag"
    assert Checked(note._repr_mimebundle_()["text/html"]).text == str(note)
    assert "<pre" not in Note("short")._repr_mimebundle_()["text/html"]


def test_transcript_shows_messages_exactly_or_as_markdown() -> None:
    messages = (Message("user", "<b> **x**\x1b"), Message("assistant", "**y**"))
    exact = Transcript(title="Would go", messages=messages, note="about 3 tokens", is_exact=True)
    assert str(exact) == "Would go\n\n[user]\n<b> **x**\n\n[assistant]\n**y**\n\nabout 3 tokens"
    assert "<b> **x**" in Checked(exact._repr_mimebundle_()["text/html"]).text
    html = Transcript(title="t", messages=messages)._repr_mimebundle_()["text/html"]
    assert "<strong>y</strong>" in html
    Checked(html)
