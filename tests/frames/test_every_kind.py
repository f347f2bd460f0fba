"""One interface to frames of every library: the same tests over each of them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from frame_kinds import KINDS, FrameKind, columns_of, text_type, values_of
from needs import lacking, needs
from pydantic import BaseModel
from servers import Answer, ChatServer, Received, status, text

import aichat_magic
from aichat_magic.core.errors import BadInputError, BatchStoppedError, MissingExtraError


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> FrameKind:
    found: FrameKind = request.param
    if found.needs and (reason := lacking(*found.needs)):
        pytest.skip(reason)
    return found


def of_kinds(is_wanted: Callable[[FrameKind], bool]) -> pytest.MarkDecorator:
    """Run a test over some kinds of frames only."""
    return pytest.mark.parametrize("kind", list(filter(is_wanted, KINDS)), ids=str, indirect=True)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


def options(server: ChatServer, **more: Any) -> dict[str, Any]:
    return {"model": "openai/m", "base_url": server.url, "progress": False, **more}


def asked(server: ChatServer) -> list[str]:
    return sorted(received.last_message for received in server.requests)


def replies_of(kind: FrameKind, result: Any) -> list[Any]:
    """The replies of `complete`, which come back with the rows where these are computed for the call."""
    assert type(result).__name__ == kind.returned[0 if kind.is_computed else 1]
    column = result["reply"] if kind.is_computed else result
    assert text_type(column) in kind.text
    return values_of(column)


ROWS = {"title": ["a", None, "c", "a"], "n": [1, 2, 3, 1]}


def test_replies_come_back_in_the_frames_own_kind(kind: FrameKind, server: ChatServer) -> None:
    result = aichat_magic.complete(kind.make(ROWS), "{title} {n}", **options(server))
    assert replies_of(kind, result) == ["echo: a 1", None, "echo: c 3", "echo: a 1"]
    assert asked(server) == ["a 1", "c 3"]
    if kind.is_computed:
        assert columns_of(result) == {**ROWS, "reply": ["echo: a 1", None, "echo: c 3", "echo: a 1"]}


@of_kinds(lambda kind: not kind.is_computed)  # it has no columns of its own
def test_column_of_prompts_in_every_kind(kind: FrameKind, server: ChatServer) -> None:
    frame = kind.make(ROWS)
    column = frame.column("title") if hasattr(frame, "column") else frame["title"]
    result = aichat_magic.complete(column, **options(server))
    assert type(result).__name__ == kind.returned[1]
    assert text_type(result) in kind.text
    assert values_of(result) == ["echo: a", None, "echo: c", "echo: a"]
    assert getattr(result, "name", "title") == "title"


def test_cells_of_every_type_are_sent_as_python_shows_them(kind: FrameKind, server: ChatServer) -> None:
    frame = kind.make({"d": [date(2026, 1, 2), None], "f": [1.5, 2.5], "b": [True, False], "g": ["größe", "x"]})
    aichat_magic.complete(frame, "{d} {f} {b} {g}", **options(server))
    assert asked(server) == ["2026-01-02 1.5 True größe"]


def test_not_a_number_is_missing(kind: FrameKind, server: ChatServer) -> None:
    frame = kind.make({"f": [1.5, float("nan")], "x": ["a", "b"]})
    result = aichat_magic.complete(frame, "{f} {x}", **options(server))
    assert replies_of(kind, result) == ["echo: 1.5 a", None]


def test_columns_of_any_name_in_every_kind(kind: FrameKind, server: ChatServer) -> None:
    frame = kind.make({"user.name": ["Ada"], "zip-code": [1815], "price ($)": ["2"], "a:b": ["x"], " padded": ["p"]})
    template = '{user.name} {zip-code} { price ($) } {a:b} { padded} {"label": "x"}'
    aichat_magic.complete(frame, template, **options(server))
    assert asked(server) == ['Ada 1815 2 x p {"label": "x"}']
    with pytest.raises(BadInputError, match=r"Did you mean 'user\.name'"):
        aichat_magic.complete(kind.make({"user.name": ["Ada"]}), "{user_name}", **options(server))


def test_raw_template_in_every_kind(kind: FrameKind, server: ChatServer) -> None:
    result = aichat_magic.complete(kind.make(ROWS), "{title!r} {x}", raw=True, **options(server))
    assert replies_of(kind, result) == ["echo: {title!r} {x}"] * 4
    assert len(server.requests) == 1


def test_failed_rows_are_missing_and_said(kind: FrameKind) -> None:
    def answer(received: Received, attempt: int) -> Answer:
        return status(400) if received.last_message == "bad" else text("fine")

    with ChatServer(answer) as server:
        with pytest.warns(UserWarning, match="1 of 3 rows failed") as caught:
            result = aichat_magic.complete(kind.make({"x": ["a", "bad", "c"]}), "{x}", **options(server))
        assert replies_of(kind, result) == ["fine", None, "fine"]
        assert caught[0].filename == __file__
        with pytest.raises(BatchStoppedError):
            aichat_magic.complete(kind.make({"x": ["bad"]}), "{x}", **options(server))


def test_run_gives_a_frame_of_the_same_kind(kind: FrameKind, server: ChatServer) -> None:
    run = aichat_magic.run(kind.make(ROWS), "{title} {n}", **options(server, store=False))
    frame = run.frame(thinking=True)
    assert type(frame).__name__ == kind.returned[0]
    columns = columns_of(frame)
    assert columns["reply"] == ["echo: a 1", None, "echo: c 3", "echo: a 1"]
    assert columns["input_tokens"][1] is None
    assert isinstance(columns["input_tokens"][0], int)
    assert columns["thinking"] == [None] * 4
    again = run.retry()
    assert type(again.frame()).__name__ == kind.returned[0]
    assert len(server.requests) == 2


def test_estimate_sends_nothing(kind: FrameKind, server: ChatServer) -> None:
    estimate = aichat_magic.estimate(kind.make(ROWS), "{title} {n}", **options(server))
    assert (estimate.rows, estimate.missing, estimate.unique) == (4, 1, 2)
    assert server.requests == []


def test_preview_asks_for_the_first_rows(kind: FrameKind, server: ChatServer) -> None:
    frame = aichat_magic.preview(kind.make(ROWS), "{title} {n}", 2, **options(server))
    columns = columns_of(frame)
    assert columns["prompt"] == ["a 1", None]
    assert columns["reply"] == ["echo: a 1", None]
    assert asked(server) == ["a 1"]
    with pytest.raises(BadInputError, match="n must be"):
        aichat_magic.preview(kind.make(ROWS), "{title} {n}", 0, **options(server))


class Note(BaseModel):
    mood: Literal["good", "bad"]
    stars: int
    share: float
    is_spam: bool
    when: date
    tags: list[str]
    extra: dict[str, Any]


GOOD = """{"mood": "good", "stars": 5, "share": 0.5, "is_spam": false, "when": "2026-01-02", "tags": ["a", "b"],
"extra": {"k": 1}}"""
OTHER = GOOD.replace('"k": 1', '"other": "x"').replace("good", "bad")


def test_extracted_columns_have_their_types(kind: FrameKind) -> None:
    def answer(received: Received, attempt: int) -> Answer:
        return text(OTHER if received.json["messages"][0]["content"] == "c" else GOOD)

    with ChatServer(answer) as server:
        found = aichat_magic.extract(kind.make({"x": ["a", None, "c"]}), "{x}", schema=Note, **options(server))
    assert type(found).__name__ == kind.returned[0]
    columns = columns_of(found)
    expected = ["x"] * kind.is_computed + ["mood", "stars", "share", "is_spam", "when", "tags", "extra"]
    assert list(columns) == expected
    assert columns["mood"] == ["good", None, "bad"]
    assert columns["stars"] == [5, None, 5]
    assert columns["share"] == [0.5, None, 0.5]
    assert columns["is_spam"] == [False, None, False]
    assert str(columns["when"][0]) == "2026-01-02 00:00:00"
    assert [None if tags is None else list(tags) for tags in columns["tags"]] == [["a", "b"], None, ["a", "b"]]
    # Nothing is lost where rows have different fields, which some libraries drop in silence.
    first, _, last = columns["extra"]
    assert "1" in str(first)
    assert "other" in str(last)


def test_rows_that_cannot_be_extracted_have_their_errors(kind: FrameKind) -> None:
    with ChatServer(lambda received, attempt: text("no idea")) as server:
        found = columns_of(
            aichat_magic.extract(kind.make({"x": ["a", None]}), "{x}", schema=Literal["p", "q"], **options(server))
        )
    assert found["extract_raw"] == ["no idea", None]
    assert found["extract_error"][0]


def test_results_never_replace_a_column_that_comes_back_with_them(kind: FrameKind, server: ChatServer) -> None:
    if not kind.is_computed:
        result = aichat_magic.complete(kind.make({"reply": ["a"]}), "{reply}", **options(server))
        assert values_of(result) == ["echo: a"]
        return
    with pytest.raises(BadInputError, match="'reply' already"):
        aichat_magic.complete(kind.make({"reply": ["a"]}), "{reply}", **options(server))
    with pytest.raises(BadInputError, match="'stars' already"):
        aichat_magic.extract(kind.make({"stars": ["a"]}), "{stars}", schema=Note, **options(server))
    assert server.requests == []


@of_kinds(lambda kind: not kind.is_computed)
def test_messages_are_recognised_in_every_kind(kind: FrameKind, server: ChatServer) -> None:
    messages = [[{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}], None]
    frame = kind.make({"messages": messages})
    column = frame.column("messages") if hasattr(frame, "column") else frame["messages"]
    result = values_of(aichat_magic.complete(column, **options(server)))
    assert result == ["echo: hi", None]
    assert server.requests[0].json["messages"] == messages[0]


class Talk:
    """A conversation in the forms that frames give it."""

    TEXTS: ClassVar = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]


def test_conversation_in_every_form_that_a_frame_gives_it(server: ChatServer) -> None:
    import numpy as np
    import pandas as pd

    talk = Talk.TEXTS
    forms: list[Any] = [
        *(talk, tuple(talk), np.array(talk), [dict(message, name=None) for message in talk]),
        *([list(message.items()) for message in talk], np.array([list(message.items()) for message in talk])),
        *([aichat_magic.Message(**message) for message in talk], pd.Series(talk), pd.array(talk, dtype=object)),
    ]
    if not lacking("pyarrow"):
        import pyarrow as pa

        forms += [pa.array(talk), pa.array([talk])[0], pa.chunked_array([talk])]
    if not lacking("polars"):
        import polars as pl

        forms.append(pl.Series(talk))
    for form in forms:
        cells = pd.Series([form, "plain"], dtype=object)
        replies = cells.aichat.complete(**options(server))
        assert replies.tolist() == ["echo: hi", "echo: plain"], type(form)
    assert len(server.requests) == 2
    assert talk in [received.json["messages"] for received in server.requests]


@pytest.mark.parametrize("cell", [{"role": "user", "content": "hi"}, aichat_magic.Message("user", "hi")], ids=str)
def test_single_message_is_a_conversation(cell: Any, server: ChatServer) -> None:
    import pandas as pd

    assert pd.Series([cell]).aichat.complete(**options(server)).tolist() == ["echo: hi"]


@needs("pyarrow")
@pytest.mark.parametrize("backend", [None, "pyarrow"])
def test_messages_after_parquet(backend: Any, server: ChatServer, tmp_path: Path) -> None:
    import pandas as pd

    talks = [Talk.TEXTS, None, [{"role": "user", "content": "two", "name": "x"}]]
    pd.DataFrame({"messages": talks}).to_parquet(tmp_path / "talks.parquet")
    more = {} if backend is None else {"dtype_backend": backend}
    column = pd.read_parquet(tmp_path / "talks.parquet", **more)["messages"]
    assert values_of(column.aichat.complete(**options(server))) == ["echo: hi", None, "echo: two"]
    assert Talk.TEXTS in [received.json["messages"] for received in server.requests]


def test_arrays_that_are_no_conversation_are_the_errors_of_their_rows(server: ChatServer) -> None:
    import numpy as np
    import pandas as pd

    cells = pd.Series([np.array([1.0, 2.0]), np.array([]), ("a", "b"), np.float64(2.5), np.str_("s"), np.array("t")])
    with pytest.warns(UserWarning, match="3 of 6 rows failed.*Row 0 is no conversation"):
        replies = cells.aichat.complete(**options(server))
    assert values_of(replies) == [None, None, None, "echo: 2.5", "echo: s", "echo: t"]


@of_kinds(lambda kind: kind.name != "RecordBatch")  # a table without rows has no batches
def test_empty_frame_of_every_kind(kind: FrameKind, server: ChatServer) -> None:
    result = aichat_magic.complete(kind.make({"x": []}), "{x}", **options(server))
    assert len(values_of(result["reply"] if kind.is_computed else result)) == 0
    assert server.requests == []


def test_what_is_no_table_is_refused() -> None:
    for value in (None, "text", ["a"], {"a": ["x"]}, 5, object(), ("a",)):
        with pytest.raises(BadInputError, match="table or a column"):
            aichat_magic.complete(value, "{a}")


def test_table_without_a_template_and_a_column_with_one_are_refused() -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": ["x"]})
    with pytest.raises(BadInputError, match="needs a column template"):
        aichat_magic.complete(frame)
    with pytest.raises(BadInputError, match="takes no column template"):
        aichat_magic.complete(frame["a"], "{a}")
    with pytest.raises(BadInputError, match="raw=True"):
        aichat_magic.complete(frame["a"], raw=True)


@needs("pyarrow", "duckdb")
def test_two_columns_of_one_name_are_refused() -> None:
    import duckdb
    import pyarrow as pa

    for frame in (pa.table([["x"], ["y"]], names=["a", "a"]), duckdb.sql("SELECT 1 AS a, 2 AS a")):
        with pytest.raises(BadInputError, match="have the same name"):
            aichat_magic.complete(frame, "{a}", model="echo/echo", progress=False)


@needs("pyarrow")
def test_arrow_arrays_are_columns(server: ChatServer) -> None:
    import pyarrow as pa

    for column in (pa.array(["a", None]), pa.chunked_array([["a"], [None]]), pa.array(["a", None]).dictionary_encode()):
        assert values_of(aichat_magic.complete(column, **options(server))) == ["echo: a", None]


@needs("duckdb")
@pytest.mark.parametrize(
    ("missing", "command"),
    [("pyarrow", "pip install pyarrow$"), ("duckdb.typing", "pip install -U narwhals duckdb$")],
)
def test_library_that_hands_out_no_rows_alone_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: str, command: str
) -> None:
    import duckdb
    import narwhals as nw

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(nw.LazyFrame, "collect", refuse)
    with pytest.raises(MissingExtraError, match=command):
        aichat_magic.complete(duckdb.sql("SELECT 1 AS a"), "{a}", model="echo/echo")


@needs("polars")
def test_types_that_polars_alone_has(server: ChatServer) -> None:
    import polars as pl

    frame = pl.DataFrame(
        {
            "c": pl.Series(["x", None], dtype=pl.Categorical),
            "e": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])),
            "s": [{"k": 1}, {"k": 2}],
            "l": [[1, 2], [3]],
            "o": pl.Series([1 + 2j, None], dtype=pl.Object),
        }
    )
    replies = aichat_magic.complete(frame, "{c} {e} {s} {l} {o}", **options(server))
    assert replies.to_list() == ["echo: x a {'k': 1} [1, 2] (1+2j)", None]


def test_functions_keep_the_index_and_the_name_of_pandas(server: ChatServer) -> None:
    import pandas as pd

    index = pd.MultiIndex.from_tuples([("x", 1), ("x", 1), ("y", 2)], names=["one", "two"])
    frame = pd.DataFrame({"a": ["p", None, "q"]}, index=index)
    assert aichat_magic.complete(frame, "{a}", **options(server)).index.equals(index)
    assert aichat_magic.complete(frame["a"], **options(server)).name == "a"
    assert aichat_magic.run(frame, "{a}", **options(server)).frame().index.equals(index)
    run = frame.aichat.last_run
    assert run is not None
    assert run.progress.hits == 2


# --- the accessors of polars


@needs("polars")
def test_polars_has_the_accessors(server: ChatServer) -> None:
    import polars as pl

    frame = pl.DataFrame(ROWS)
    replies = frame.aichat.complete("{title} {n}", **options(server))  # type: ignore[attr-defined]  # registered
    assert frame.with_columns(reply=replies)["reply"].to_list() == ["echo: a 1", None, "echo: c 3", "echo: a 1"]
    assert frame["title"].aichat.complete(**options(server)).to_list() == ["echo: a", None, "echo: c", "echo: a"]  # type: ignore[attr-defined]  # registered
    assert frame.aichat.last_run.progress.done == 4  # type: ignore[attr-defined]  # registered
    assert frame.aichat.preview("{title}", 1, **options(server))["prompt"].to_list() == ["a"]  # type: ignore[attr-defined]  # registered
    assert frame.aichat.estimate("{title}", **options(server)).rows == 4  # type: ignore[attr-defined]  # registered
    assert frame.aichat.run("{title}", **options(server)).frame().shape[0] == 4  # type: ignore[attr-defined]  # registered
    assert frame.clone().aichat.last_run is None  # type: ignore[attr-defined]  # registered


@needs("polars")
def test_lazy_frame_is_collected_with_a_word_and_anew_for_each_call(
    server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    import polars as pl

    lazy = pl.LazyFrame(ROWS)
    result = lazy.aichat.complete("{title} {n}", **options(server))  # type: ignore[attr-defined]  # registered
    assert result.columns == ["title", "n", "reply"]
    assert "The LazyFrame was computed: 4 rows" in caplog.text
    caplog.clear()
    assert lazy.aichat.preview("{title} {n}", 1, **options(server)).shape[0] == 1  # type: ignore[attr-defined]  # registered
    assert "computed: 1 row." in caplog.text


@needs("polars")
@pytest.mark.parametrize("first", ["polars", "aichat_magic"])
def test_accessor_of_polars_is_there_whichever_is_imported_first(first: str) -> None:
    second = "aichat_magic" if first == "polars" else "polars"
    code = (
        f"import {first}, sys\n"
        "assert 'aichat_magic' not in sys.modules or 'polars' not in sys.modules\n"
        f"import {second}\n"
        "import polars\nassert polars.Series(['x']).aichat\nassert polars.DataFrame({'a': ['x']}).lazy().aichat\n"
        "assert polars.__spec__.loader.__class__.__name__ == 'SourceFileLoader'\n"
        "polars.DataFrame({'a': ['x']}).aichat.complete('{a}', model='echo/echo', progress=False, store=False)\n"
        "assert 'pandas' not in sys.modules, 'polars goes without pandas'\n"
        "import pandas\nassert pandas.Series(['x']).aichat\n"
        "assert not [f for f in sys.meta_path if 'AfterImport' in type(f).__name__]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_whoever_asks_whether_a_library_is_installed_leaves_its_accessors_alone(library: str) -> None:
    if reason := lacking(library):
        pytest.skip(reason)
    code = (
        f"import aichat_magic, importlib.util, sys\nfound = importlib.util.find_spec('{library}')\n"
        f"assert found.loader.get_filename('{library}')\nassert '{library}' not in sys.modules\n"
        f"import {library}\nassert {library}.Series(['x']).aichat\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_imports_load_nothing_that_no_accessor_needs_yet(library: str, order: str) -> None:
    if reason := lacking(library):
        pytest.skip(reason)
    imports = [f"import {library}", "import aichat_magic"]
    code = "\n".join(
        [
            *(imports if order == "before" else reversed(imports)),
            "import sys",
            "ours = {name for name in sys.modules if name.startswith('aichat_magic.')}",
            "assert ours == {f'aichat_magic.frames{n}' for n in ('', '.import_hook', '.registration')}, ours",
            f"assert {library}.DataFrame.aichat.complete.__doc__.startswith('Send one prompt')",
            "from aichat_magic.frames.accessors import SeriesAccessor",
            f"assert type({library}.Series(['a']).aichat) is SeriesAccessor",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_pandas_goes_without_narwhals() -> None:
    code = (
        "import sys, pandas, aichat_magic\n"
        "frame = pandas.DataFrame({'a': ['x']})\n"
        "aichat_magic.complete(frame, '{a}', model='echo/echo', progress=False, store=False)\n"
        "assert not {'narwhals', 'polars', 'duckdb'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
