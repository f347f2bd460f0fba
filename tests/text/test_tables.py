"""Markdown tables as DataFrames."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichat_magic.core.messages import Reply
from aichat_magic.text.tables import tables

TEXT = """\
Here you are:

| city | people | area (km²) | code |
|:-----|-------:|:----------:|------|
| **Lisbon** | 545,796 | 100.05 | 007 |
| `Porto` | 231,800 | n/a | 4000 |

and

a | b
--- | ---
x \\| y |
1

Not | a table
"""


def test_tables_of_a_reply_are_frames() -> None:
    cities, second = Reply(text=TEXT).tables
    expected = pd.DataFrame(
        {
            "city": ["Lisbon", "Porto"],
            "people": [545796, 231800],
            "area (km²)": [100.05, None],
            "code": ["007", "4000"],
        }
    )
    pd.testing.assert_frame_equal(cities, expected)
    assert second.to_dict("list") == {"a": ["x | y"], "b": [""]}


@pytest.mark.parametrize("text", ["", "no table", "a | b\nc | d", "| a |\n| --- | --- |\n| 1 |", "---\na | b"])
def test_text_without_a_table_has_none(text: str) -> None:
    assert Reply(text=text).tables == []


def test_table_in_a_fence_counts_when_there_is_no_other() -> None:
    fenced = "```\n| a |\n|---|\n| 1 |\n```\n"
    assert Reply(text=fenced).tables[0]["a"].tolist() == [1]
    assert Reply(text=fenced + "| b |\n|---|\n| 2 |").tables[0]["b"].tolist() == [2]


def test_equal_headings_are_told_apart_and_short_rows_filled() -> None:
    (frame,) = tables("|n|n|m|\n|-|-|-|\n|a|b|\n|c|d|e|f|")
    assert list(frame.columns) == ["n", "n_2", "m"]
    assert frame.to_numpy().tolist() == [["a", "b", ""], ["c", "d", "e"]]


def test_head_without_rows_is_an_empty_frame() -> None:
    (frame,) = tables("|n|m|\n|-|-|")
    assert list(frame.columns) == ["n", "m"]
    assert len(frame) == 0


@given(st.text(alphabet="|-: \n\\`*a1,."))
def test_no_text_makes_it_fail(text: str) -> None:
    for frame in tables(text):
        assert len(frame.columns) >= 1


def test_pandas_is_imported_by_those_only_who_have_a_table() -> None:
    program = (
        "import sys; from aichat_magic.core.messages import Reply\n"
        "Reply(text='a').tables; print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
