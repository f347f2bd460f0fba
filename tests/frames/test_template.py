from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.errors import PromptError
from aichat_magic.frames.template import ColumnTemplate


def filled(template: str, row: dict[Any, Any], **options: bool) -> str | None:
    parsed = ColumnTemplate.parse(template, row, **options)
    values = [[list(row.values())[position]] for position in parsed.columns]
    prompt = next(parsed.rows(values, lambda value: value is None, 1))
    assert not isinstance(prompt, PromptError)
    return prompt


def test_columns_are_put_in_and_names_may_hold_spaces() -> None:
    assert filled("{title}: {body text}!", {"title": "a", "body text": 3}) == "a: 3!"


def test_missing_value_means_no_prompt() -> None:
    assert filled("{title} {body}", {"title": "a", "body": None}) is None


def test_value_is_never_looked_at_for_braces() -> None:
    assert filled("{a} {b}", {"a": "{b}", "b": "{a}"}) == "{b} {a}"


# Names as people have them: paths, headers of spreadsheets, what looks like a format, other types.
NAMES = [
    *(
        "user.name",
        "zip-code",
        "price ($)",
        "a:b",
        "title!r",
        "x:.2f",
        "x=",
        "Größe",
        "#",
        "no.",
        "100%",
        "a/b",
        "yes/no?",
    ),
    *(
        "items[0]",
        'row["title"]',
        "'quoted'",
        '"label": "x"',
        "a, b",
        "a{b}",
        "{",
        "}",
        "tab\there",
        "two\nlines",
        "\U0001f600",
    ),
    *("x" * 300, " padded ", "f(x)", "$x$", r"\frac", "<b>", "None", 0, 1.5, None, True, date(2026, 1, 2)),
    *(("a", "b"), ("a", ""), ("a", 1), ("{", "}")),
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_column_of_any_name_is_put_in(name: Any) -> None:
    assert filled(f"<{{{name}}}> {{body}}", {"body": "y", name: "x"}) == "<x> y"


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\u00a0"], ids=repr)
def test_white_space_around_a_name_does_not_matter(space: str) -> None:
    assert filled(f"{{{space}user.name{space}}}", {"user.name": "x"}) == "x"
    assert filled("{ a }{a}", {"a": 1, " a ": 2}) == "21"


def test_column_of_a_multiindex_has_the_name_that_python_shows_and_one_with_dots() -> None:
    row = {("user", "name"): "Ada", ("user", "age"): 36, ("city", ""): "London"}
    assert filled("{('user', 'name')} {user.age} {city}", row) == "Ada 36 London"
    assert filled("{a.b}", {"a.b": "own name", ("a", "b"): "alias"}) == "own name"
    with pytest.raises(PromptError, match=r"2 columns called 'a\.b'"):
        ColumnTemplate.parse("{a.b}", [("a", "b"), ("a.b", "")])


TEXT = [
    *(
        "{{body}}",
        "{{user.name}}",
        "{}",
        "{ }",
        "{1}",
        "{2, 3}",
        "{'a': 1}",
        '{"body": "x"}',
        '{"title": 1, "body": [2]}',
    ),
    *(
        "{'body'}",
        '{"body"}',
        "{bug, wish, praise}",
        "{yes/no}",
        "{yes|no}",
        "{...}",
        "{color: red}",
        "{body: text}",
        "{\n  x;\n}",
    ),
    *(r"\mathbf{v}", r"x_{max} = \frac{a}{n}", r"$E_{kin} = {m}v^{2}$", r"\begin{align} x \end{align}", r"\(\{q\}\)"),
    *(r"\frac{1+x}{2}", "x^{n-1}", r"\hat{\theta}", "{f()}", "{x > 0}", "{3.5}", "{-1}", "{%s}", "{?}", "{e.g. a cat}"),
]


@pytest.mark.parametrize("text", TEXT)
def test_other_braces_are_text(text: str) -> None:
    assert filled(f"{text} {{body}} {text}", {"body": "x", "title": "t"}) == f"{text} x {text}"


def test_column_in_a_formula_is_filled_and_a_slip_of_one_refused() -> None:
    assert filled(r"Solve $x_{i} = {rhs}$, \frac{rhs}{2}", {"rhs": "5"}) == r"Solve $x_{i} = 5$, \frac5{2}"
    with pytest.raises(PromptError, match="'rhs'"):
        filled(r"Solve $x = {rsh}$ for {rhs}", {"rhs": "5"})


def test_json_around_a_column_is_text_and_the_column_is_not() -> None:
    row = {"label": "l", "body": "b"}
    assert filled('Answer as {"label": "x"} for {body}', row) == 'Answer as {"label": "x"} for b'
    assert filled('{"label": "x", "text": {body}}', row) == '{"label": "x", "text": b}'
    assert filled('{{"text": {body}}}', row) == '{{"text": b}}'


@pytest.mark.parametrize(
    ("brace", "meant"),
    [
        ("titel", "title"),
        ("Title", "title"),
        ("body txt", "body text"),
        ("title!r", "title"),
        ("title:.2f", "title"),
        ("title:>10", "title"),
        ("title!s:>10", "title"),
        ("title=", "title"),
        ("titel!r", "title"),
        ("when:%Y-%m-%d", "when"),
        ("user.nmae", "user.name"),
        ("user.name.first", "user.name"),
        ("user:name", "user.name"),
        ("user_name", "user.name"),
        ("zip_code", "zip-code"),
        ("zip code", "zip-code"),
        ("price($)", "price ($)"),
        ("price (€)", "price ($)"),
        ("PRICE ($)", "price ($)"),
        ("trailing", "trailing "),
    ],
)
def test_what_nearly_names_a_column_is_refused_with_its_name(brace: str, meant: str) -> None:
    columns = ["title", "body text", "user.name", "zip-code", "price ($)", "when", "trailing "]
    with pytest.raises(PromptError) as caught:
        ColumnTemplate.parse(f"{{{brace}}} {{title}}", columns)
    assert meant in str(caught.value).partition("Columns:")[0].replace(f"{{{brace}}}", "")
    assert "raw=True" in str(caught.value)


@pytest.mark.parametrize(
    "brace", ["amount", "df.title", "row[title]", 'row["title"]', "well-known", "x!r", "amount:.2f", "ü"]
)
def test_what_reads_as_a_name_is_refused(brace: str) -> None:
    with pytest.raises(PromptError, match="no column"):
        ColumnTemplate.parse(f"{{{brace}}} {{q}}", ["q"])


def test_raw_template_fills_nothing() -> None:
    assert filled("{title} {titel} {x!r}", {"title": None}, is_raw=True) == "{title} {titel} {x!r}"
    parsed = ColumnTemplate.parse("{a}", ["a"], is_raw=True)
    assert list(parsed.rows([], lambda value: True, 2)) == ["{a}", "{a}"]
    with pytest.raises(PromptError, match="empty"):
        ColumnTemplate.parse(" ", ["a"], is_raw=True)


def test_column_that_is_there_twice_is_refused() -> None:
    with pytest.raises(PromptError, match="2 columns called 'a'"):
        ColumnTemplate.parse("{a}", ["a", "a"])


@pytest.mark.parametrize("text", ["", "  ", "no column at all"])
def test_template_that_asks_every_row_the_same_is_refused(text: str) -> None:
    with pytest.raises(PromptError):
        ColumnTemplate.parse(text, ["a"])


@given(st.text() | st.text("{}abcdexy. !:"))
def test_any_template_parses_or_is_refused(text: str) -> None:
    try:
        parsed = ColumnTemplate.parse(text, ["a", "b c", "x{y", "d.e"])
    except PromptError:
        return
    assert len(parsed.parts) == len(parsed.columns) + 1
