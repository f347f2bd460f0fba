import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.errors import PromptError
from aichat_magic.frames.template import ColumnTemplate


def filled(template: str, **columns: object) -> str | None:
    names = [name.replace("_", " ") for name in columns]
    parsed = ColumnTemplate.parse(template, names)
    values = [[columns[name.replace(" ", "_")]] for name in parsed.columns]
    return next(parsed.rows(values, lambda value: value is None))


def test_columns_are_put_in_and_names_may_hold_spaces() -> None:
    assert filled("{title}: {body text}!", title="a", body_text=3) == "a: 3!"


def test_missing_value_means_no_prompt() -> None:
    assert filled("{title} {body}", title="a", body=None) is None


def test_value_is_never_looked_at_for_braces() -> None:
    assert filled("{a} {b}", a="{b}", b="{a}") == "{b} {a}"


@pytest.mark.parametrize("text", ["{{a}}", "{'a': 1}", "{a!r}", "{a:.2f}", r"\frac{a+b}{2}", "{a.b}", "{}"])
def test_other_braces_are_text(text: str) -> None:
    assert filled(text + " {a}", a="x") == text + " x"


@pytest.mark.parametrize("name", ["titel", "body txt", "Title"])
def test_unknown_column_names_the_nearest(name: str) -> None:
    with pytest.raises(PromptError, match=r"Did you mean '(title|body text)'"):
        ColumnTemplate.parse(f"{{{name}}}", ["title", "body text"])


def test_column_that_is_there_twice_is_refused() -> None:
    with pytest.raises(PromptError, match="2 columns called 'a'"):
        ColumnTemplate.parse("{a}", ["a", "a"])


@pytest.mark.parametrize("text", ["", "  ", "no column at all"])
def test_template_that_asks_every_row_the_same_is_refused(text: str) -> None:
    with pytest.raises(PromptError):
        ColumnTemplate.parse(text, ["a"])


@given(st.text())
def test_any_template_parses_or_is_refused(text: str) -> None:
    try:
        parsed = ColumnTemplate.parse(text, ["a", "b c"])
    except PromptError:
        return
    assert len(parsed.parts) == len(parsed.columns) + 1
