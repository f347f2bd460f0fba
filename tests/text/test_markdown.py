"""Markdown to safe HTML."""

import re

import pytest
from effort import times_as_much_cpu
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safe_html import HOSTILE, MARKDOWN, Checked

from aichat_magic.core.messages import Reply
from aichat_magic.text import markdown
from aichat_magic.text.characters import terminal_text
from aichat_magic.text.reply_view import reply_bundle, reply_html
from aichat_magic.text.widgets import Note


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "[" * 80_000, "![" * 40_000, ">" * 80_000, "*" * 80_000, "*a" * 40_000, "`a" * 40_000, "[a](" * 20_000,
        "$a " * 26_000, "\\[x\n" * 20_000, "\\(" * 40_000, "\\begin{align}\n" * 5_000, "- " * 40_000, "[a][" * 20_000,
        "".join("  " * depth + "- a\n" for depth in range(250)), "|" * 80_000, "<a " * 26_000, "\\" * 80_000,
        "<sub>" * 16_000, "<sub>x</sub>" * 6_600, "<details>\n" * 8_000, "<details></details>\n" * 4_000,
        "<details><summary>" * 4_400, "[^1]: " * 13_000, "[^1]: x\n" * 10_000, "https://a " * 8_000,
        "- [ ] x\n" * 10_000, "https://a" + ")" * 70_000, "> <details>\n" * 6_000, "x:" * 40_000,
        "<details>\n```\n" * 5_000,
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


@pytest.mark.parametrize(
    "text", ["```\na\n\n![x](https://example.org/x.png)\n```", "    a\n\n\n   \n    ![b](https://example.org/b.png)\n"]
)
def test_html_holds_no_blank_line_at_which_markdown_would_go_on(text: str) -> None:
    """In a notebook that became Markdown, what follows a blank line is no HTML any more."""
    html = reply_html(text)
    assert "\n\n" not in re.sub(r"[^\S\n]", "", html)
    assert "![" in Checked(html).text
    assert "a\n\n" in Checked(html).text
