from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.charts import histogram, line

NUMBERS = st.lists(st.floats(min_value=0, max_value=1e6), min_size=2, max_size=300)


@given(NUMBERS)
def test_pictures_are_well_formed_and_inside_their_frame(values: list[float]) -> None:
    for picture in (histogram(values, title="t", unit="s"), line(sorted(values), title="t", unit="s")):
        root = ET.fromstring(picture)
        for mark in root.iter("{http://www.w3.org/2000/svg}rect"):
            assert float(mark.attrib["y"]) >= 15
            assert float(mark.attrib["height"]) >= 0
        for mark in root.iter("{http://www.w3.org/2000/svg}polyline"):
            assert all(
                0 <= float(number) <= 301 for pair in mark.attrib["points"].split() for number in pair.split(",")
            )


def test_every_value_is_in_a_bar() -> None:
    picture = ET.fromstring(histogram([1.0] * 10 + [2.0] * 5, title="t", unit="s"))
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}rect"))) == 2


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_values_for_a_line_give_nothing(values: list[float]) -> None:
    assert line(values, title="t", unit="s") == ""


def test_no_values_give_no_histogram() -> None:
    assert histogram([], title="t", unit="s") == ""
