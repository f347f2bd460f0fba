"""How values become texts and images: small, honest about what was cut, and without touching more than they show."""

import array
import base64
import collections
import functools
import io
import json
import linecache
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from effort import calls_of, peak_bytes_of
from hypothesis import given
from hypothesis import strategies as st
from needs import needs

from aichat_magic.core.errors import PromptError
from aichat_magic.core.messages import Message, Reply, estimate_tokens
from aichat_magic.values.describe import BUDGET_TOKENS, schema_of, shown, source_of, traceback_of
from aichat_magic.values.images import image_of
from aichat_magic.values.types import type_name

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def tokens(text: str) -> int:
    return estimate_tokens([Message("user", text)]) - 4


# Tables -----------------------------------------------------------------------------------------------------------


def test_frame_is_shown_with_shape_types_missing_counts_and_head() -> None:
    frame = pd.DataFrame({"a|b": [1.5, None, 0.1 + 0.2], "c": ["x\ny", "é", "z"]})
    seen = shown(frame)
    assert seen.text.splitlines() == [
        "DataFrame, 3 rows x 2 columns",
        "",
        "| column | dtype | missing |",
        "| --- | --- | --- |",
        "| a\\|b | float64 | 1 |",
        "| c | str | 0 |",
        "",
        "| a\\|b | c |",
        "| --- | --- |",
        "| 1.5 | x y |",
        "| nan | é |",
        "| 0.3 | z |",
    ]
    assert seen.cut == ""


def test_cut_frame_says_what_is_shown() -> None:
    seen = shown(pd.DataFrame({f"c{i}": range(1000) for i in range(50)}))
    assert seen.text.endswith("(the first 20 of 1,000 rows and the first 30 of 50 columns shown)")
    assert seen.cut == "first 20 of 1,000 rows, first 30 of 50 columns"


def test_index_is_shown_where_it_says_something() -> None:
    frame = pd.DataFrame({"n": [1, 2]}, index=pd.Index(["one", "two"], name="key"))
    assert "| key | n |\n| --- | --- |\n| one | 1 |" in shown(frame).text
    assert "index" not in shown(pd.DataFrame({"n": [1, 2]})).text


def test_frames_of_every_odd_shape_are_shown() -> None:
    odd = [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame(index=range(3)),
        pd.DataFrame([[1, 2]], columns=["same", "same"]),
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
        pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)])),
        pd.DataFrame({"o": [[1, 2], {"k": None}, np.zeros(3)]}),
    ]
    for frame in odd:
        rows, columns = frame.shape
        assert shown(frame).text.startswith(f"DataFrame, {rows} rows x {columns} columns")


FRAMES = {
    "long numbers": lambda: pd.DataFrame({"a": np.arange(10_000_000)}),
    "numbers": lambda: pd.DataFrame(np.zeros((1_000_000, 10))),
    "wide": lambda: pd.DataFrame(np.zeros((1_000, 10_000))),
    "objects": lambda: pd.DataFrame({f"c{i}": np.array(["a", None] * 500_000, dtype=object) for i in range(10)}),
    "long texts": lambda: pd.DataFrame({f"c{i}": ["é" * 5_000] * 100_000 for i in range(100)}, dtype=object),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_ten_million_cells_cost_no_more_than_the_part_that_is_shown(name: str) -> None:
    """No function is called for a cell that is not shown; missing values are counted with a byte or two a cell."""
    frame = FRAMES[name]()
    seen = shown(frame)
    assert calls_of(lambda: shown(frame)) < 1.2 * calls_of(lambda: shown(frame.head(1000)))
    assert peak_bytes_of(lambda: shown(frame)) < 2 * frame.size
    assert frame.size >= 10_000_000
    assert tokens(seen.text) <= BUDGET_TOKENS
    assert seen.cut.startswith("first ")


def test_missing_values_are_counted_in_a_part_where_counting_all_would_take_long() -> None:
    frame = pd.DataFrame({"o": pd.Series([None] * 6_000_000, dtype=object), "n": np.full(6_000_000, np.nan)})
    text = shown(frame).text
    assert "| o | object | 2,500,000 in the first 2,500,000 rows |" in text
    assert "| n | float64 | 6,000,000 |" in text


@pytest.mark.parametrize("budget", [1, 10, 50, 200, 1000])
def test_budget_holds_whatever_the_value(budget: int) -> None:
    values: list[Any] = [
        pd.DataFrame({f"column {i}": ["é" * 50] * 100 for i in range(100)}),
        pd.Series(["é" * 50] * 100, name="n" * 500),
        pd.Index(["é" * 50] * 100),
        np.zeros((50, 50)),
        list(range(10_000)),
        {"key" * 50: "é" * 10_000},
        b"\x00" * 10_000,
        json.JSONDecoder,
        ValueError("é" * 10_000),
    ]
    for value in values:
        seen = shown(value, budget_tokens=budget)
        assert tokens(seen.text) <= budget, type(value)
        assert seen.cut or budget == 1000


def test_schema_has_no_row() -> None:
    schema = schema_of(pd.DataFrame({"secret": ["canary"]}))
    assert schema is not None
    assert "| secret | str | 0 |" in schema.text
    assert "canary" not in schema.text
    assert schema_of([1]) is None


def test_schema_of_many_columns_says_that_it_is_cut() -> None:
    schema = schema_of(pd.DataFrame(np.zeros((1, 500))))
    assert schema is not None
    assert schema.cut == "first 100 of 500 columns"


def test_series_index_and_arrays() -> None:
    series = shown(pd.Series([1.0, None] * 50, name="price"))
    assert series.text.startswith("Series 'price', 100 values, dtype float64, missing: 50\n\n| index | price |")
    assert series.cut == "first 20 of 100 values"
    assert shown(pd.Index(["a", "b"])).text == "Index, 2 labels, dtype str\n\n['a', 'b']"
    assert shown(np.arange(3)).text == "ndarray, shape (3,), dtype int64\n\n[0 1 2]"
    large = shown(np.zeros((9, 100, 100)))
    assert large.text.startswith("ndarray, shape (9, 100, 100), dtype float64; shown: corner [0, :8, :8]")
    assert large.text.count("0.") == 64
    assert shown(np.array("x")).text.endswith("\n\nx")


# Containers, code, errors -----------------------------------------------------------------------------------------


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.floats() | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.sets(st.integers(), max_size=3)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=12,
)


@given(st.lists(PLAIN, max_size=5) | st.dictionaries(st.integers(), PLAIN, max_size=5))
def test_small_containers_are_shown_as_python_shows_them(value: Any) -> None:
    assert shown(value).text == str(value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "begin"),
    [
        (list(range(3_000_000)), "[0, 1, "),
        ({i: i for i in range(1_000_000)}, "{0: 0, 1: 1, "),
        (collections.Counter(range(1_000_000)), "Counter({0: 1, "),
        (collections.deque(range(1_000_000)), "deque([0, 1, "),
        ({i: i for i in range(1_000_000)}.keys(), "dict_keys([0, 1, "),
        (array.array("d", bytes(8_000_000)), "array([0.0, "),
        ([[["x" * 10_000_000] * 10] * 10] * 1001, "[[['xxx"),
        ([1] * 10 + [collections.deque(range(1_000_000))] * 5000, "[1, 1, "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_containers_are_cut_without_writing_them_whole(value: Any, begin: str) -> None:
    seen = shown(value)
    assert calls_of(lambda: shown(value)) < 300_000
    assert peak_bytes_of(lambda: shown(value)) < 2_000_000
    assert seen.text.startswith(begin)
    assert seen.text.rstrip(")]}").endswith("more items")
    assert tokens(seen.text) <= BUDGET_TOKENS
    assert seen.cut.endswith("items")


def test_container_in_itself_and_deep_ones_end() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert shown(loop).text == "[1, ...]"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "..." in shown(deep).text


def test_tables_inside_a_container_are_named() -> None:
    assert shown({"df": pd.DataFrame({"a": [1]}), "n": np.zeros(100)}).text == (
        "{'df': <DataFrame of shape (1, 1)>, 'n': <ndarray of shape (100,)>}"
    )


def a_function(x: int) -> int:
    """Halve."""
    return x // 2


class AClass:
    def method(self) -> str:
        return "here"


def test_functions_and_classes_come_with_their_source() -> None:
    assert shown(a_function).text == 'def a_function(x: int) -> int:\n    """Halve."""\n    return x // 2'
    assert shown(AClass().method).text.endswith('return "here"')
    assert shown(AClass).text.startswith("class AClass:")
    assert type_name(AClass) == "class"
    assert "return x // 2" in shown(functools.lru_cache(a_function)).text


def test_without_source_there_is_the_signature_and_the_docstring() -> None:
    assert shown(len).text.startswith("def len(obj, /)\n\nReturn the number of items")
    assert shown(type("Bare", (), {"__doc__": "Nothing."})).text.startswith("class Bare")


def test_class_of_a_cell_is_found_by_its_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "x = 1\n\n@decorated\nclass Written:\n    a = 2\n    def f(self):\n        return 3\n\ny = 2\n"
    name = "/tmp/ipykernel_1/1.py"
    monkeypatch.setitem(linecache.cache, name, (len(source), None, source.splitlines(keepends=True), name))
    namespace: dict[str, Any] = {"__name__": "nowhere", "decorated": lambda cls: cls}
    exec(compile(source, name, "exec"), namespace)  # as a notebook does
    assert source_of(namespace["Written"]) == (
        "@decorated\nclass Written:\n    a = 2\n    def f(self):\n        return 3"
    )


def failed(error: Exception, depth: int = 0) -> Exception:
    def fall(left: int) -> None:
        if left:
            fall(left - 1)
        raise error

    try:
        fall(depth)
    except Exception as caught:
        return caught
    raise AssertionError


def test_exception_is_a_short_traceback_without_directories() -> None:
    text = traceback_of(failed(KeyError("price"), depth=20))
    lines = text.splitlines()
    assert lines[0] == "KeyError: 'price'"
    assert lines[1] == "  (17 outer calls left out)"
    assert lines[-1] == "    raise error"
    assert "in fall, test_describe.py, line " in lines[-2]
    assert len(lines) == 12


def test_cause_of_an_exception_follows() -> None:
    error = failed(ValueError("no price"))
    error.__cause__ = failed(KeyError("price"))
    assert "\nCaused by: KeyError: 'price'\n" in shown(error).text
    error.__cause__.__cause__ = error
    assert shown(error).text.count("Caused by") == 1


def test_syntax_error_shows_the_line() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("a = = 1", "<cell>", "exec")
    assert "a = = 1" in shown(caught.value).text


# Images -----------------------------------------------------------------------------------------------------------


class Drawn:
    def __init__(self, made: Any) -> None:
        self.made = made

    def _repr_png_(self) -> Any:
        return self.made

    def __str__(self) -> str:
        return "drawn"


@pytest.mark.parametrize("made", [PNG, base64.b64encode(PNG).decode(), (PNG, {"width": 1})], ids=repr)
def test_what_draws_itself_is_an_image(made: Any) -> None:
    (image,) = shown(Drawn(made)).images
    assert image.media_type == "image/png"
    assert image.data == PNG


def test_what_does_not_draw_itself_this_time_is_text() -> None:
    assert shown(Drawn(None)).text == "drawn"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (bytearray(PNG), "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a..", "image/gif"),
        (b"RIFF\n\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
def test_bytes_of_an_image_are_one(data: bytes, kind: str) -> None:
    image = image_of(data)
    assert image is not None
    assert (image.media_type, image.data) == (kind, bytes(data))


def test_other_bytes_are_text() -> None:
    assert shown(b"RIFF....WAVE").text == "b'RIFF....WAVE'"


def test_figure_is_drawn_as_png_of_a_bounded_size() -> None:
    class Figure:
        def get_size_inches(self) -> tuple[float, float]:
            return (100.0, 50.0)

        def savefig(self, file: io.BytesIO, *, format: str, dpi: float) -> None:
            file.write(PNG + f"{format} {dpi:.2f}".encode())

    (image,) = shown(Figure()).images
    assert image.data == PNG + b"png 15.68"


@needs("matplotlib", "PIL")
def test_figures_and_pictures_of_the_libraries() -> None:
    from matplotlib import pyplot
    from PIL import Image as picture

    figure, axes = pyplot.subplots()
    axes.plot([1, 2])
    for value in (figure, axes, picture.new("CMYK", (3000, 10)), picture.new("RGBA", (2, 2))):
        (image,) = shown(value).images
        assert max(picture.open(io.BytesIO(image.data)).size) <= 1568
    pyplot.close(figure)


@needs("polars")
def test_polars_frame_is_shown_like_one_of_pandas() -> None:
    import polars

    text = shown(polars.DataFrame({"a": [1, None], "b": ["x", "y"]})).text
    assert "| a | Int64 | 1 |" in text
    assert text.endswith("| a | b |\n| --- | --- |\n| 1 | x |\n| None | y |")


# What is never done -----------------------------------------------------------------------------------------------


def test_value_is_asked_for_nothing_but_its_text() -> None:
    class Trap:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"looked up {name}")

        def __call__(self) -> str:
            raise AssertionError("called")

        def __str__(self) -> str:
            return "trap"

    assert shown(Trap()).text == "trap"


def test_value_that_cannot_be_shown_is_a_clear_error() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    for value in (Broken(), [Broken()], pd.DataFrame({"a": [Broken()]})):
        with pytest.raises(PromptError, match=r"cannot be shown.*RuntimeError: no"):
            shown(value)
    with pytest.raises(PromptError, match="Drawn"):
        shown(Drawn("not base64!"))


def test_replies_of_several_models_are_their_texts() -> None:
    both = [Reply(text="Four.", model="vllm/a"), None, Reply(text="**Five**", model="vllm/b")]
    assert shown(both).text == "1. vllm/a\n\nFour.\n\n2. None\n\n3. vllm/b\n\n**Five**"
    assert shown(both[0]).text == "Four."
    many = shown([Reply(text="x", model="m")] * 1_000)
    assert (many.cut, many.text.count("x")) == ("first 20 of 1,000 replies", 20)


def test_nothing_is_imported() -> None:
    script = (
        "import sys; from aichat_magic.magic.context.include import included\n"
        "class F:\n    def savefig(self, file, **how): file.write(b'\\x89PNG\\r\\n\\x1a\\n')\n"
        "included(['a', 'b', 'c'], {'a': F(), 'b': [1], 'c': F})\n"
        "print({'pandas', 'numpy', 'PIL', 'matplotlib', 'polars', 'IPython', 'pypdf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
