"""What models write beyond CommonMark: shown as in other viewers, and nothing of it active."""

import pytest
from effort import times_as_much_cpu
from safe_html import Checked

from aichat_magic.text.markdown import markdown_html


def shown(text: str) -> str:
    return Checked(markdown_html(text)).text.strip()


def tags(text: str) -> list[str]:
    return [tag for tag, _ in Checked(markdown_html(text)).seen]


# Elements in a line -----------------------------------------------------------------------------------------------


def test_line_breaks_in_cells_of_a_table_break_lines() -> None:
    html = markdown_html("|a|b|\n|-|-|\n|one<br>two<BR/>three<br />four|H<sub>2</sub>O|")
    assert tags("|a|\n|-|\n|one<br>two<BR/>three<br />four|").count("br") == 3
    assert "H<sub>2</sub>O" in html


def test_a_few_elements_without_attributes_are_shown() -> None:
    text = "x<sup>2</sup> <kbd>Ctrl</kbd>+<KBD>C</KBD> <mark>m</mark> <b>b *i*</b> <u>u</u> <del>d</del>"
    assert tags(text) == ["p", "sup", "kbd", "kbd", "mark", "b", "em", "u", "del"]
    assert shown(text) == "x2 Ctrl+C m b i u d"


@pytest.mark.parametrize(
    "text",
    [
        "a </sub> b", "a <sub> b", "<sub>*a</sub>*", '<sub class="x">a</sub>', "<sub onclick=x>a</sub>", "<p>a</p>",
        "<span>a</span>", "<font>a</font>", "<br class=x>", "<a href=https://example.org>a</a>", "<h1>a</h1>",
        "<summary>a</summary>", "</details>", "<details class=x>", "<details ontoggle=x>", "<!-- a -->",
        "<kbd/x>a</kbd>",
    ],
)  # fmt: skip
def test_every_other_tag_and_one_without_its_counterpart_is_text(text: str) -> None:
    assert shown(text).replace("*", "") == text.replace("*", "")
    assert set(tags(text)) <= {"p", "em"}


def test_tags_in_code_are_code() -> None:
    assert tags("`<br><sub>x</sub>`\n\n```\n<details>\n<br>\n```") == ["p", "code", "div", "pre", "code"]


def test_elements_inside_of_emphasis_and_links_stay_inside() -> None:
    html = markdown_html("**<sub>a** b</sub> [<mark>c](https://example.org) d</mark>")
    assert tags("**<sub>a** b</sub>") == ["p", "strong"]
    assert "<mark>" not in html


# Folds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<details>\n<summary>Click **me**</summary>\n\nBody\n\n- x\n\n</details>\n\nafter",
        "<details><summary>Click **me**</summary>Body\n- x\n</details> after",
        "<DETAILS>\n  <summary>\n  Click **me**\n  </summary>\nBody\n- x\n</DETAILS>\nafter",
    ],
)
def test_folds_have_a_summary_and_markdown_inside(text: str) -> None:
    assert shown(text).split() == ["Click", "me", "Body", "x", "after"]
    assert tags(text)[:3] == ["details", "summary", "strong"]
    assert "li" in tags(text)
    assert markdown_html(text).rstrip().endswith("</details>\n<p>after</p>")


def test_folds_stand_in_quotes_lists_and_each_other() -> None:
    for text in (
        "> <details>\n> <summary>a</summary>\n>\n> b\n> </details>\n\nc",
        "- <details>\n  <summary>a</summary>\n\n  b\n\n  </details>\n\nc",
        "<details>\n<summary>a</summary>\n<details open>\n<summary>b</summary>\n</details>\n</details>\nc",
    ):
        assert shown(text).split() == ["a", "b", "c"], text
        assert markdown_html(text).rstrip().endswith("<p>c</p>"), text
        assert "summary" in tags(text)


def test_fold_that_is_still_open_ends_with_its_block_and_loses_nothing() -> None:
    assert shown("<details open>\n<summary>a</summary>\n\nb\n\nc").split() == ["a", "b", "c"]
    assert shown("> <details>\n> b\n\nc").split() == ["b", "c"]
    assert shown("<details>") == ""


def test_end_of_a_fold_in_code_does_not_end_it() -> None:
    html = markdown_html("<details>\n\n```html\n</details>\n```\n\nb\n\n</details>\n\nc")
    assert html.index("b</p>") < html.index("</details>\n<p>c")


# Tasks and footnotes ----------------------------------------------------------------------------------------------


def test_tasks_have_boxes() -> None:
    assert shown("- [ ] one\n- [x] two\n- [X] three\n- [y] four").split("\n") == [
        "\u2610 one", "\u2611 two", "\u2611 three", "[y] four",
    ]  # fmt: skip
    assert shown("1. [x] one").startswith("\u2611")
    assert shown("- [x](https://example.org)") == "x"
    assert shown("[x] no item") == "[x] no item"
    assert shown("- a [ ] b") == "a [ ] b"


def test_footnotes_are_marked_and_shown_where_they_stand() -> None:
    text = "One[^1], two[^note].\n\n[^1]: The *first*\n\n    goes on\n\n[^note]: https://example.org/x\n\nend"
    html = markdown_html(text)
    assert shown(text).split() == ["One1,", "twonote.", "1", "The", "first", "goes", "on", "note",
                                   "https://example.org/x", "end"]  # fmt: skip
    assert tags(text).count("sup") == 4
    assert "id=" not in html
    assert "#" not in html


def test_marks_without_a_footnote_are_text() -> None:
    assert shown("a[^1] b[^]: [^x y]: z") == "a[^1] b[^]: [^x y]: z"
    assert shown("`[^1]`\n\n[^1]: x").startswith("[^1]")


# Bare URLs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("see https://example.org/a_b_c.", "https://example.org/a_b_c"),
        ("(https://example.org/x)", "https://example.org/x"),
        ("https://example.org/X_(y)", "https://example.org/X_(y)"),
        ("**https://example.org/a**", "https://example.org/a"),
        ("|a|\n|-|\n|HTTP://example.org/a|", "HTTP://example.org/a"),
        ("https://example.org/?a=1&b=2#c, and", "https://example.org/?a=1&b=2#c"),
        ("\u89c1https\u3002 https://example.org/\u3002", "https://example.org/"),
    ],
)
def test_bare_urls_of_the_web_are_links(text: str, url: str) -> None:
    found = [attributes["href"] for tag, attributes in Checked(markdown_html(text)).seen if tag == "a"]
    assert found == [url]
    assert url in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://example.org", "javascript://example.org/%0aalert(1)", "blob:https://example.org/x", "xhttps://example.org",
        "file:///etc/passwd", "vscode://file/x", "data:https://example.org", "https://", "http:x", "`https://example.org`",
        "www.example.org", "view-source:https://example.org", "command:https://example.org",
    ],
)  # fmt: skip
def test_everything_else_is_no_link(text: str) -> None:
    assert "a" not in tags(text)


def test_link_whose_label_is_a_url_leads_where_it_says() -> None:
    html = markdown_html("[https://example.org/a](https://example.com/b)")
    assert html.count("<a ") == 1
    assert 'href="https://example.com/b"' in html


# Cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<sub>" * 3000, "<sub>x</sub>" * 1500, "*<sub>" * 2000, "<details>\n" * 1500, "<details></details>\n" * 700,
        "<details><summary>" * 700, "[^1]" * 3000, "[^1]: " * 2000, "[^1]: x\n" * 2000, "https://" * 1500,
        "https://a " * 1500, "https://a" + ")" * 10_000, "- [ ] x\n" * 1500, "<br>" * 3000, "http" * 3000 + ":",
    ],
    ids=lambda text: text[:18].strip(),
)  # fmt: skip
def test_pathological_text_costs_little_more_than_ordinary_text(text: str) -> None:
    ordinary = ("word *word* `word` [word](https://example.org) word\n\n" * len(text))[: max(len(text), 12_000)]
    Checked(markdown_html(text))
    assert times_as_much_cpu(lambda: markdown_html(text), lambda: markdown_html(ordinary)) < 12
