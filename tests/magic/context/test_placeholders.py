import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.errors import PromptError
from aichat_magic.magic.context.placeholders import fill, placeholders


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


def test_table_and_what_was_cut_of_it() -> None:
    filled = fill("Explain {df} and {x}", {"df": pd.DataFrame({"a": range(90)}), "x": 1})
    assert "| a | int64 | 0 |" in filled.text
    assert filled.remarks == ("df (first 20 of 90 rows)", "x")


def test_image_goes_beside_the_text_once() -> None:
    png = b"\x89PNG\r\n\x1a\n..."
    filled = fill("Compare {one} with {two}; {one} is old", {"one": png, "two": b"\xff\xd8\xff.."})
    assert filled.text == "Compare [image: one] with [image: two]; [image: one] is old"
    assert [image.media_type for image in filled.images] == ["image/png", "image/jpeg"]
    assert filled.images[0].data == png


def test_placeholders_are_listed_once_in_order() -> None:
    assert placeholders("{b} {a} {b} {{c}}") == ("b", "a")


@given(st.text())
def test_text_without_variables_is_never_changed(text: str) -> None:
    assert fill(text, {}).text == text


@given(st.text(), st.text())
def test_value_is_inserted_whole(before: str, value: str) -> None:
    text = before.replace("{", "").replace("}", "") + " {v} after"
    assert fill(text, {"v": value}).text == text.replace("{v}", value)
