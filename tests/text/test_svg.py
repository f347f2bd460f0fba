import base64
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.text.svg import histogram, image, line, quantile

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


def test_image_holds_the_picture_and_says_what_it_shows() -> None:
    svg = histogram([1.0, 2.0], title="t", unit="s")
    html = image(svg, alt='"1" < 2')
    assert html.count("<") == 1
    assert 'alt="&quot;1&quot; &lt; 2"' in html
    data = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert data is not None
    assert base64.b64decode(data[1]).decode() == svg
    assert image("", alt="nothing") == ""


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 2), (0.95, 4), (1, 4)])
def test_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert quantile([4, 2, 1, 3], share) == value
