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


# --- formulas: row 95


LATEX = [
    r"\mathbf{x}",
    r"\frac{a}{n}",
    "x_{n}",
    "e^{n}",
    r"$\{a\}$",
    r"\begin{x}",
    "$a + {n}$",
    "$$\n{n}\n$$",
    r"\({x}\)",
    r"\[{x}\]",
    r"\sum_{n}^{x}",
    r"\hat{\mathbf{x}}_{n}",
]
LETTERS = {name: pd.DataFrame({"canary": [1]}) for name in ("x", "a", "n")}


@pytest.mark.parametrize("text", LATEX)
def test_formula_stays_byte_for_byte_whatever_the_variables(text: str) -> None:
    assert fill(text, LETTERS).text == text
    assert placeholders(text) == ()
    assert fill(text, LETTERS, is_strict=True).filled == ()


@given(st.lists(st.sampled_from([*LATEX, "{v}", "and", "5", "${v} ", "file_{v}.csv"]), max_size=6))
def test_formulas_and_placeholders_side_by_side(parts: list[str]) -> None:
    text = " ; ".join(parts)
    assert fill(text, {**LETTERS, "v": "VALUE"}).text == text.replace("{v}", "VALUE")


def test_braces_of_formulas_are_told_only_where_they_name_a_variable() -> None:
    filled = fill(r"{x}: \mathbf{x} and \mathbf{y}", {"x": 1})
    assert filled.text == r"1: \mathbf{x} and \mathbf{y}"
    assert (filled.in_formulas, filled.left) == (("x",), ())


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Cost: ${price}", "Cost: $5"),
        ("from ${price} to ${price}", "from $5 to $5"),
        ("data_{price}.csv", "data_5.csv"),
        (r"C:\data\{price}\x.csv", r"C:\data\5\x.csv"),
        ("```python\nprint(f'{price}')\n```", "```python\nprint(f'5')\n```"),
        (r'print(f"\n{price}")', r'print(f"\n5")'),
        ('{"price": {price}}', '{"price": {price}}'),
        ('{"price": "{price}"}', '{"price": "5"}'),
    ],
)
def test_what_is_no_formula_is_filled_as_ever(text: str, result: str) -> None:
    assert fill(text, {"price": 5}).text == result


# --- slips of the pen: row 96


@pytest.mark.parametrize(
    ("slip", "name"),
    [("dff", "df"), ("fd", "df"), ("DF", "df"), ("custmers", "customers"), ("customer", "customers"), ("df2", "df1")],
)
def test_slip_is_asked_about(slip: str, name: str) -> None:
    with pytest.raises(
        PromptError, match=rf"'{slip}'. Did you mean {{{name}}}\? Nothing was sent.*{{{{{slip}}}}}.*--raw"
    ):
        fill(f"Explain {{{slip}}}", {name: 1})
    assert fill(f"Explain {{{{{slip}}}}}", {name: 1}).text == f"Explain {{{{{slip}}}}}"


@pytest.mark.parametrize(
    "text",
    [
        "{other}",
        "{x}",
        "{y}",
        "{ab}",
        "dff, DF and fd",
        '{"dff": 1}',
        r"\mathbf{dff} and $a + {dff}$",
        "`{dff}` and ``{dff}``",
        "```\n{dff}\n```",
        "~~~\n{dff}",
        "print(f'{dff}') and rf\"{dff}\"",
        "{_d}",
        "{Int}",
        "{mat}",
    ],
)
def test_what_is_no_slip_stays_as_text(text: str) -> None:
    values = {"df": 1, "z": 1, "ac": 1, "_df": 1, "In": [], "Out": {}, "mat_": math, "math": math}
    assert fill(text, values).text == text


def test_slip_outside_of_code_counts_beside_one_inside() -> None:
    with pytest.raises(PromptError, match=r"Did you mean \{df\}"):
        fill("`{dff}` and {dff}", {"df": 1})
