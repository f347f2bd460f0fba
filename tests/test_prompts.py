import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.errors import PromptError
from aichat_magic.prompts import fill, placeholders, text_of


class Trap:
    """Everything that must never be called."""

    api_key = "secret"

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"looked up {name}")

    def __call__(self) -> str:
        raise AssertionError("called")

    def __str__(self) -> str:
        return "trap"


VALUES = {"name": "Ada", "c": Trap(), "d": {0: "zero"}, "f": Trap(), "x": 3, "inner": "{name}", "math": math}


@pytest.mark.parametrize(
    "text",
    [
        "{c.api_key}",
        "{d[0]}",
        "{x!r}",
        "{x:{c.k}}",
        "{x:.2f}",
        "{f()}",
        "{{x}}",
        "{{ x }}",
        "{{{x}}}",
        "{x}}",
        "{{x}",
        "{'a': 1}",
        "print({'a': x})",
        r"\frac{a}{b}",
        "{}",
        "{ x }",
        "{0}",
        "$5 and $name",
        "%s %(name)s",
        "{% if x %}",
    ],
)
def test_what_is_no_placeholder_stays_byte_for_byte(text: str) -> None:
    assert fill(text, VALUES).text == text


def test_single_braced_variable_is_filled() -> None:
    filled = fill("Hello {name}, {x} times {name}", VALUES)
    assert filled.text == "Hello Ada, 3 times Ada"
    assert filled.filled == ("name", "x")


def test_value_that_holds_a_placeholder_is_inserted_literally() -> None:
    assert fill("{inner}", VALUES).text == "{name}"


def test_name_without_a_variable_stays_and_is_reported() -> None:
    filled = fill("{nobody} and {name}", VALUES)
    assert filled.text == "{nobody} and Ada"
    assert filled.left == ("nobody",)


def test_module_is_no_value() -> None:
    assert fill("{math}", VALUES).left == ("math",)


def test_strict_names_the_nearest_variable() -> None:
    with pytest.raises(PromptError, match=r"'nam'.*Did you mean 'name'"):
        fill("{nam}", VALUES, is_strict=True)


def test_value_that_cannot_be_shown_is_a_clear_error() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(PromptError, match=r"Broken.*RuntimeError"):
        text_of(Broken())


def test_frame_becomes_a_small_table_that_tells_its_size() -> None:
    text = text_of(pd.DataFrame({"a|b": range(100), "c": "x\ny"}))
    assert text.splitlines()[0] == "| a\\|b | c |"
    assert text.count("\n") == 23
    assert text.endswith("(100 rows x 2 columns, the first 20 shown)")


def test_long_value_is_cut_and_says_so() -> None:
    assert text_of(list(range(100_000))).endswith("more characters]")


def test_placeholders_are_listed_once_in_order() -> None:
    assert placeholders("{b} {a} {b} {{c}}") == ("b", "a")


@given(st.text())
def test_text_without_variables_is_never_changed(text: str) -> None:
    assert fill(text, {}).text == text


@given(st.text(), st.text())
def test_value_is_inserted_whole(before: str, value: str) -> None:
    text = before.replace("{", "").replace("}", "") + " {v} after"
    assert fill(text, {"v": value}).text == text.replace("{v}", value)
