"""Amounts of money and other numbers."""

import math

import pytest

from aichat_magic.text.numbers import decimals, money


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0.0, "0"), (0.000123, "0.00012"), (0.05, "0.050"), (1.5, "1.50"), (12_345.678, "12,345.68"), (math.inf, "inf")],
)
def test_number_has_two_significant_digits_or_two_decimals(number: float, shown: str) -> None:
    assert decimals(number) == shown


def test_cost_that_is_not_known_says_so() -> None:
    assert (money(None), money(0.0), money(3.2)) == ("unknown", "$0", "$3.20")
