"""Where formulas begin and end; what people write outside of formulas is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.text.formulas import formula_spans


def formulas(text: str) -> list[str]:
    return [text[start:end] for start, end in formula_spans(text)]


@pytest.mark.parametrize(
    "text",
    [
        r"\mathbf{x}",
        r"\frac{a}{n}",
        r"\frac{\sqrt{a}}{n}",
        r"\sqrt[3]{x}",
        r"\operatorname*{x}",
        r"\sum_{i}^{n}",
        r"\alpha_{n}",
        r"\begin{x}",
        r"\begin{cases} {n} \end{cases}",
        r"\begin{align*} {n} \end{align*}",
        r"$\{a\}$",
        "$x + {n}$",
        "$a\n+ {n}$",
        r"$5\$ + {n}$",
        "$$ {n}\n= {x} $$",
        r"\( {n} \)",
        r"\[ {n} \]",
        "^{n}",
    ],
)
def test_formula_is_found_whole(text: str) -> None:
    assert formulas(f"See {text}, please: {{x}}") == [text]


@pytest.mark.parametrize("text", ["x_{n}", "x'_{n}", "(a)_{n}", "a[i]_{n}", "e^{n}", "table^{n}"])
def test_index_is_found(text: str) -> None:
    assert "{n}" in formulas(text)[0]


@pytest.mark.parametrize(
    "text",
    [
        "Cost: ${price}",
        "from ${a} to ${b}",
        "${a}-${b}",
        "$5 for {x}, $6 for {y}",
        "$5 and {x}",
        "5$ and {x}$",
        "$HOME/{x}:$PATH/{y}",
        "a $ {x} $ b",
        "one $x\n\n{n}$ two",
        r"\$x {n} \$",
        "data_{year}.csv",
        "{year}_{month}.csv",
        "*_{suffix}",
        r"C:\data\{year}\x.csv",
        r"C:\reports_{year}.csv",
        r".\out_{year}",
        r'print(f"\n{x}\t{y}")',
        '{"a": {x}}',
        r"\alpha {x}",
        r"\text and {x}",
    ],
)
def test_everything_else_is_none(text: str) -> None:
    assert formulas(text) == []


def test_unclosed_formulas_end_nowhere() -> None:
    assert formulas(r"$x \( \[ \begin{align} $$") == [r"\begin{align}"]
    assert "a" not in "".join(formulas(r"\sqrt{a"))[5:]


@given(st.text(alphabet="\\${}[]()_^abn 1\n", max_size=40))
def test_spans_are_in_order_and_inside_the_text(text: str) -> None:
    end = 0
    for start, stop in formula_spans(text):
        assert end <= start < stop <= len(text)
        end = stop
