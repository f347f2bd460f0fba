import datetime
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from needs import lacking
from servers import Answer, ChatServer, Received, payload, status, text

import aichat_magic  # noqa: F401  # it is what gives pandas the accessor
from aichat_magic.core.errors import BadInputError, BatchStoppedError


def ask(series: "pd.Series[str]", server: ChatServer, **options: object) -> "pd.Series[str]":
    return series.aichat.complete(model="openai/m", base_url=server.url, **options)


def test_column_of_prompts_becomes_a_column_of_replies_in_order() -> None:
    prompts = pd.Series(["a", "b", "c"], index=["x", "x", "y"], name="prompt")
    with ChatServer() as server:
        replies = ask(prompts, server)
    assert replies.tolist() == ["echo: a", "echo: b", "echo: c"]
    assert replies.index.tolist() == ["x", "x", "y"]
    assert replies.dtype == "string"


def test_equal_prompts_are_sent_once_and_missing_ones_not_at_all() -> None:
    prompts = pd.Series(["a", None, "a", np.nan, pd.NA, "b"])
    with ChatServer() as server:
        replies = ask(prompts, server)
        assert sorted(received.last_message for received in server.requests) == ["a", "b"]
    assert replies.isna().tolist() == [False, True, False, True, True, False]


def test_empty_column_gives_an_empty_column() -> None:
    with ChatServer() as server:
        assert len(ask(pd.Series([], dtype="string"), server)) == 0
        assert server.requests == []


def test_failed_row_is_missing_and_said_and_the_others_are_there() -> None:
    def answer(received: Received, attempt: int) -> object:
        return status(400) if received.last_message == "bad" else text("fine")

    with ChatServer(answer) as server, pytest.warns(UserWarning, match="1 of 3.*`run.errors`"):  # type: ignore[arg-type]  # an Answer
        replies = ask(pd.Series(["a", "bad", "c"]), server)
    assert replies.isna().tolist() == [False, True, False]


def test_options_reach_the_wire() -> None:
    with ChatServer() as server:
        ask(pd.Series(["a"]), server, temperature=0, max_tokens=3)
        assert server.requests[0].json["temperature"] == 0
        assert server.requests[0].json["max_tokens"] == 3


@pytest.mark.parametrize("first", ["pandas", "aichat_magic"])
def test_accessor_is_there_whichever_is_imported_first(first: str) -> None:
    second = "aichat_magic" if first == "pandas" else "pandas"
    code = (
        f"import {first}, sys\n"
        "assert 'aichat_magic' not in sys.modules or 'pandas' not in sys.modules\n"
        f"import {second}\n"
        "import pandas\nassert pandas.Series(['x']).aichat\n"
        "assert pandas.__spec__.loader.__class__.__name__ == 'SourceFileLoader'\n"
        "assert not [f for f in sys.meta_path if 'pandas' in getattr(f, 'callbacks', ())]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# --- rows, cells and labels of every kind (row 30)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


def complete(data: Any, server: ChatServer, *template: str, **options: Any) -> Any:
    return data.aichat.complete(*template, model="openai/m", base_url=server.url, progress=False, **options)


def asked(server: ChatServer) -> list[str]:
    return sorted(received.last_message for received in server.requests)


def arrow(values: list[Any], kind: str) -> pd.Series:
    if reason := lacking("pyarrow"):
        pytest.skip(reason)
    return pd.Series(values, dtype=kind)


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([7, 7, 7]),
        pd.Index(["b", "a", "b"]),
        pd.MultiIndex.from_tuples([("x", 1), ("x", 1), ("y", 2)], names=["one", "two"]),
        pd.DatetimeIndex(["2026-01-01", "2025-01-01", "2026-01-01"]),
        pd.Index([np.nan, None, "c"], dtype=object),
        pd.CategoricalIndex(["p", "q", "p"]),
        pd.IntervalIndex.from_breaks([0, 1, 2, 3]),
        pd.RangeIndex(10, 40, 10),
    ],
    ids=["duplicates", "unsorted", "MultiIndex", "dates", "missing labels", "categories", "intervals", "range"],
)
def test_index_order_and_length_are_kept(server: ChatServer, index: pd.Index) -> None:
    frame = pd.DataFrame({"text": ["a", None, "c"]}, index=index)
    for replies in (complete(frame["text"], server), complete(frame, server, "{text}")):
        assert replies.index.equals(frame.index)
        assert replies.index.names == frame.index.names
        assert replies.tolist()[::2] == ["echo: a", "echo: c"]
        assert replies.isna().tolist() == [False, True, False]
        joined = frame.assign(reply=replies)
        assert joined["reply"].tolist()[::2] == ["echo: a", "echo: c"]
    assert asked(server) == ["a", "c"]


@pytest.mark.parametrize(
    "missing", [None, np.nan, pd.NA, pd.NaT, np.float32("nan"), np.datetime64("NaT", "s")], ids=str
)
def test_missing_value_of_every_kind_is_not_sent(server: ChatServer, missing: Any) -> None:
    column = pd.Series(["a", missing], dtype=object)
    assert complete(column, server).isna().tolist() == [False, True]
    assert complete(pd.DataFrame({"x": column, "y": ["1", "2"]}), server, "{x} {y}").isna().tolist() == [False, True]
    assert asked(server) == ["a", "a 1"]


@pytest.mark.parametrize(
    ("values", "sent"),
    [
        (pd.Series([1, 2]), ["1", "2"]),
        (pd.Series([1.5, np.nan]), ["1.5"]),
        (pd.Series([True, False]), ["False", "True"]),
        (pd.Series([1, None], dtype="Int64"), ["1"]),
        (pd.Series(["a", None, "a"], dtype="category"), ["a"]),
        (pd.Series(["a", None], dtype="string"), ["a"]),
        (pd.Series(["a", None], dtype="str"), ["a"]),
        (pd.Series([datetime.date(2026, 1, 2), None]), ["2026-01-02"]),
        (pd.Series(pd.to_datetime(["2026-01-02", None])), ["2026-01-02 00:00:00"]),
        (pd.Series([{"k": 1}, "b"], dtype=object), ["b", "{'k': 1}"]),
        (pd.Series(["{name}", "é 🎈"]), ["{name}", "é 🎈"]),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, pd.Series) else "",
)
def test_cells_of_every_type_are_sent_as_text(server: ChatServer, values: pd.Series, sent: list[str]) -> None:
    replies = complete(values, server)
    assert replies.dtype == "string"
    assert replies.isna().tolist() == values.isna().tolist()
    assert asked(server) == sent
    complete(pd.DataFrame({"x": values}), server, "{x}")  # the same texts, from the store
    assert asked(server) == sent


@pytest.mark.parametrize("kind", ["string[pyarrow]", "large_string[pyarrow]"])
def test_arrow_backed_columns(server: ChatServer, kind: str) -> None:
    column = arrow(["a", None, "a", "b"], kind)
    assert complete(column, server).tolist()[2:] == ["echo: a", "echo: b"]
    assert complete(pd.DataFrame({"x": column}), server, "{x}").isna().tolist() == [False, True, False, False]
    assert asked(server) == ["a", "b"]


def test_empty_frame_gives_an_empty_column(server: ChatServer) -> None:
    replies = complete(pd.DataFrame({"text": pd.Series([], dtype=object)}), server, "{text}")
    assert (len(replies), replies.dtype) == (0, "string")
    assert server.requests == []


def test_column_where_all_is_missing_sends_nothing(server: ChatServer) -> None:
    assert complete(pd.Series([None, np.nan]), server).isna().all()
    assert server.requests == []


def test_empty_prompt_is_an_error_of_its_row_alone(server: ChatServer) -> None:
    with pytest.warns(UserWarning, match="1 of 3 rows failed.*empty"):
        replies = complete(pd.Series(["a", "  ", "c"]), server)
    assert replies.isna().tolist() == [False, True, False]
    assert asked(server) == ["a", "c"]


def test_missing_and_failed_rows_beside_each_other(server: ChatServer) -> None:
    server.answer = lambda received, attempt: status(400) if received.last_message == "bad" else text("fine")
    column = pd.Series(["a", None, "bad", "bad"])
    run = column.aichat.run(model="openai/m", base_url=server.url, progress=False)
    assert list(run.errors) == [2, 3]
    assert asked(server) == ["a", "bad"]


# --- conversations


def test_cells_that_are_lists_of_messages_are_conversations(server: ChatServer) -> None:
    talk = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "3"},
    ]
    replies = complete(pd.Series([talk, "plain", None, talk]), server, system="Be brief.")
    assert replies.isna().tolist() == [False, False, True, False]
    bodies = {received.last_message: received.json["messages"] for received in server.requests}
    assert bodies["3"] == [{"role": "system", "content": "Be brief."}, *talk]
    assert len(server.requests) == 2


@pytest.mark.parametrize("cell", [[], [{"role": "robot", "content": "x"}], ["x"], [{"content": 1}]], ids=str)
def test_list_that_is_no_conversation_is_the_error_of_its_row(server: ChatServer, cell: list[Any]) -> None:
    with pytest.warns(UserWarning, match="Row 1 is no conversation"):
        replies = complete(pd.Series(["a", cell, "c"]), server)
    assert replies.isna().tolist() == [False, True, False]
    assert asked(server) == ["a", "c"]


class Unspeakable:
    """A value that has no text."""

    def __str__(self) -> str:
        raise LookupError("no text here")


@pytest.mark.parametrize("template", [None, "Say {x}"], ids=["column", "template"])
def test_value_whose_text_raises_is_the_error_of_its_row(server: ChatServer, template: str | None) -> None:
    frame = pd.DataFrame({"x": ["a", Unspeakable(), None, "d"]})
    options: dict[str, Any] = {"model": "openai/m", "base_url": server.url, "progress": False}
    run = frame.aichat.run(template, **options) if template else frame["x"].aichat.run(**options)
    assert [text is None for text in run.texts()] == [False, True, True, False]
    assert list(run.errors) == [1]
    assert "Row 1 cannot be made into a prompt" in str(run.errors[1])
    assert "LookupError: no text here" in str(run.errors[1])
    assert (run.progress.done, run.progress.missing, run.progress.errors) == (4, 1, 1)
    shown = frame.aichat.preview("Say {x}", n=2, **options)
    assert shown["error"].isna().tolist() == [True, False]


# --- templates


def test_template_takes_columns_with_spaces_and_other_names(server: ChatServer) -> None:
    frame = pd.DataFrame({"body text": ["a"], 0: ["b"], "größe": [3], "x": ["{0}"]})
    complete(frame, server, 'Say {body text}, {0}, {größe}, {x}; {"json": true} {{x}}')
    assert asked(server) == ['Say a, b, 3, {0}; {"json": true} {{x}}']


def test_columns_of_any_name_reach_the_server(server: ChatServer) -> None:
    frame = pd.DataFrame({"user.name": ["Ada"], "zip-code": [1815], "price ($)": [2.5], "a:b": ["x"], 0: ["zero"]})
    complete(frame, server, '{user.name} {zip-code} { price ($) } {a:b} {0} {"label": "x"}')
    frame.columns = pd.MultiIndex.from_tuples([("user", "name"), ("user", "zip"), ("p", ""), ("q", 1), ("q", 2)])
    complete(frame, server, "{user.name} {('user', 'zip')} {p} {q.1}")
    assert asked(server) == ["Ada 1815 2.5 x", 'Ada 1815 2.5 x zero {"label": "x"}']
    with pytest.raises(BadInputError, match=r"user\.name"):
        complete(frame, server, "{username}")
    assert len(server.requests) == 2


def test_raw_template_is_the_prompt_of_every_row(server: ChatServer) -> None:
    frame = pd.DataFrame({"title": ["a", None]}, index=["x", "y"])
    assert (
        complete(frame, server, "Explain {title!r} and {x}", raw=True).tolist()
        == ["echo: Explain {title!r} and {x}"] * 2
    )
    assert complete(frame.iloc[:0], server, "{x}", raw=True).tolist() == []
    options: dict[str, Any] = {"model": "openai/m", "base_url": server.url, "raw": True, "progress": False}
    assert frame.aichat.estimate("{x}", **options).unique == 1
    assert frame.aichat.preview("{x}", **options)["prompt"].tolist() == ["{x}"] * 2
    assert asked(server) == ["Explain {title!r} and {x}", "{x}"]


def test_unknown_column_is_refused_before_anything_is_sent_and_the_nearest_is_named(server: ChatServer) -> None:
    frame = pd.DataFrame({"title": ["a"], "body": ["b"]})
    for call in ("complete", "run", "estimate", "preview"):
        with pytest.raises(ValueError, match=r"no column 'titel'.*title"):
            getattr(frame.aichat, call)("{titel} {body}", model="openai/m", base_url=server.url)
    assert server.requests == []


def test_column_name_that_is_there_twice_is_refused_when_it_is_asked_for(server: ChatServer) -> None:
    frame = pd.DataFrame([["a", "b", "c"]], columns=["x", "x", "y"])
    with pytest.raises(ValueError, match="2 columns called 'x'"):
        complete(frame, server, "{x}")
    assert complete(frame, server, "{y}").tolist() == ["echo: c"]


@pytest.mark.parametrize("template", ["", "   ", "no column at all"])
def test_template_without_a_column_is_refused(server: ChatServer, template: str) -> None:
    with pytest.raises(ValueError, match="template"):
        complete(pd.DataFrame({"x": ["a"]}), server, template)
    assert server.requests == []


# --- looking before, and after


def test_preview_asks_for_the_first_rows_only_and_shows_them_side_by_side(server: ChatServer) -> None:
    frame = pd.DataFrame({"x": ["a", None, "c", "d"]}, index=list("pqqr"))
    shown = frame.aichat.preview("Say {x}", n=3, model="openai/m", base_url=server.url, progress=False)
    assert shown.index.tolist() == list("pqq")
    assert shown["prompt"].tolist()[::2] == ["Say a", "Say c"]
    assert shown["reply"].tolist()[::2] == ["echo: Say a", "echo: Say c"]
    assert {"cost_usd", "input_tokens", "error"} <= set(shown.columns)
    assert asked(server) == ["Say a", "Say c"]
    complete(frame, server, "Say {x}")
    assert asked(server) == ["Say a", "Say c", "Say d"]  # what the preview has paid for is not asked again


def test_preview_shows_whole_replies_within_80_columns(server: ChatServer) -> None:
    frame = pd.DataFrame({"x": ["a word and another one, " * 8, "short", None]})
    shown = frame.aichat.preview("Say {x}", n=3, model="openai/m", base_url=server.url, progress=False)
    lines = repr(shown).split("\n")
    assert max(map(len, lines)) <= 80
    assert " ".join(lines[2:-2]).count("another") >= 8
    assert ("echo: " + "Say " + "a word and another one, " * 8).strip() in shown._repr_html_()
    assert "..." not in repr(shown)
    assert type(shown.copy()) is type(shown[["reply"]]) is pd.DataFrame
    del shown["prompt"]
    assert "reply" in repr(shown)
    assert "reply" in shown._repr_html_()


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3"])
def test_preview_of_no_rows_is_refused(server: ChatServer, n: Any) -> None:
    with pytest.raises(ValueError, match="n must be"):
        pd.DataFrame({"x": ["a"]}).aichat.preview("{x}", n=n, model="openai/m", base_url=server.url)


def test_estimate_tells_what_would_be_sent_and_sends_nothing(server: ChatServer) -> None:
    column = pd.Series(["a", "a", None, "b", "c"])
    complete(pd.Series(["a"]), server)
    estimate = column.aichat.estimate(model="openai/m", base_url=server.url)
    assert (estimate.rows, estimate.missing, estimate.unique, estimate.stored) == (5, 1, 3, 1)
    assert estimate.input_tokens > 0
    assert len(server.requests) == 1


def test_run_gives_a_frame_with_all_that_is_known(server: ChatServer) -> None:
    server.answer = lambda received, attempt: status(400) if received.last_message == "bad" else text("fine")
    column = pd.Series(["a", None, "bad"], index=[5, 5, 6])
    frame = column.aichat.run(model="openai/m", base_url=server.url, progress=False).frame()
    assert frame.index.tolist() == [5, 5, 6]
    assert frame["reply"].isna().tolist() == [False, True, True]
    assert frame["error"].isna().tolist() == [True, True, False]
    assert [str(dtype) for dtype in frame.dtypes] == ["string"] * 5 + ["Int64"] * 5 + ["Float64"] * 2
    assert frame["cost_usd"].isna().all()  # unknown, not 0


def test_retry_sends_what_has_failed_and_nothing_else(server: ChatServer) -> None:
    is_well = False

    def answer(received: Received, attempt: int) -> Answer:
        return text("fine") if is_well or received.last_message != "bad" else status(400)

    server.answer = answer
    run = pd.Series(["a", "bad", "c"]).aichat.run(model="openai/m", base_url=server.url, progress=False)
    assert list(run.errors) == [1]
    is_well = True
    again = run.retry()
    assert again.errors == {}
    assert [reply.text for reply in again.replies] == ["fine"] * 3
    assert (again.progress.hits, again.progress.calls) == (2, 1)


def test_stopped_run_has_as_many_rows_as_its_column(server: ChatServer) -> None:
    server.answer = lambda received, attempt: status(401)
    column = pd.Series([f"row {number}" for number in range(5000)])
    run = column.aichat.run(model="openai/m", base_url=server.url, progress=False, concurrency=4)
    assert run.stopped_by is not None
    assert (len(run), len(run.replies), len(run.frame())) == (5000, 5000, 5000)
    assert run.pending == 5000 - len(run.errors)
    assert len(server.requests) <= 4
    with pytest.raises(BatchStoppedError, match="of 5,000 rows"):
        complete(column, server, concurrency=4)


def test_last_run_stays_with_its_object_and_goes_nowhere_else(server: ChatServer) -> None:
    frame = pd.DataFrame({"x": ["a"]})
    assert frame.aichat.last_run is None
    complete(frame, server, "{x}")
    run: Any = frame.aichat.last_run
    assert run.progress.done == 1
    assert frame.columns.tolist() == ["x"]
    assert frame.attrs == {}
    assert frame.copy().aichat.last_run is None


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def test_view_of_a_run_is_safe_html_and_plain_text(server: ChatServer) -> None:
    server.answer = lambda received, attempt: status(400, body={"error": {"message": HOSTILE}})
    run = pd.Series([HOSTILE, "b"]).aichat.run(model="openai/m", base_url=server.url, progress=False)
    bundle = run._repr_mimebundle_()
    assert "<script" not in bundle["text/html"]
    assert "<img" not in bundle["text/html"]
    assert "BadRequestError" in bundle["text/html"]
    assert "BadRequestError" in bundle["text/plain"]
    assert bundle["text/plain"] == repr(run)


def test_run_shows_thinking_cache_and_version_of_its_replies(server: ChatServer) -> None:
    usage = {
        "prompt_tokens": 9000, "completion_tokens": 20, "total_tokens": 9500,
        "prompt_tokens_details": {"cached_tokens": 8000, "cache_write_tokens": 70},
    }  # fmt: skip
    choices = [{"message": {"content": "fine"}, "finish_reason": "stop"}]
    server.answer = lambda received, attempt: payload({"choices": choices, "usage": usage, "model": "m-2026-01-02"})
    run = pd.Series(["a", "b", None]).aichat.run(model="openai/m", base_url=server.url, progress=False)
    frame = run.frame()
    assert frame["model_version"].tolist()[:2] == ["m-2026-01-02"] * 2
    assert frame["output_tokens"].tolist()[:2] == [500, 500]
    assert frame["reasoning_tokens"].tolist()[:2] == [480, 480]
    assert frame["cached_tokens"].tolist()[:2] == [8000, 8000]
    assert frame["cache_write_tokens"].tolist()[:2] == [70, 70]
    assert frame["reasoning_tokens"].isna().tolist() == [False, False, True]
    bundle = run._repr_mimebundle_()
    for shown in bundle.values():
        plain = " ".join(shown.split()).replace(" tokens (", " (")  # the word stands elsewhere in a table
        assert "18,000 + 1,000 (16,000 cached, 140 written to the cache, 960 thinking)" in plain


def test_view_of_a_run_draws_its_latencies(server: ChatServer) -> None:
    run = pd.Series([str(number) for number in range(50)]).aichat.run(
        model="openai/m", base_url=server.url, progress=False
    )
    html = run._repr_mimebundle_()["text/html"]
    assert html.count("data:image/svg+xml") == 2
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")


def test_options_that_are_none_or_unknown(server: ChatServer) -> None:
    with pytest.raises(ValueError, match=r"temprature.*temperature"):
        complete(pd.Series(["a"]), server, temprature=0)
    assert server.requests == []


@pytest.mark.parametrize("method", ["complete", "run", "estimate", "extract"])
def test_template_for_a_column_is_refused_with_the_way_to_write_it(method: str) -> None:
    column = pd.Series(["a"], name="t")
    with pytest.raises(BadInputError, match=r"no column template.*df\.aichat\.complete"):
        getattr(column.aichat, method)("{t}", **({"schema": int} if method == "extract" else {}))


def test_column_of_prompts_is_extracted_into_typed_columns() -> None:
    with ChatServer(lambda received, attempt: text('{"n": 3}')) as server:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        found = pd.Series(["how many?", None], index=["x", "y"]).aichat.extract(
            schema=schema, model="openai/m", base_url=server.url, progress=False, store=False
        )
    assert found.loc["x", "n"] == 3
    assert found["n"].isna().tolist() == [False, True]


def test_estimate_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert pd.Series(["a", "b"]).aichat.estimate(model="openai/m", store=False).rows == 2


def test_estimate_and_cost_of_flex_are_those_of_flex(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text('[prices."openai/m"]\ninput = 1000\noutput = 0\n')
    monkeypatch.setenv("AICHAT_CONFIG", str(tmp_path / "config.toml"))
    column = pd.Series(["one two three", "four five six"])
    where = {"model": "openai/m", "base_url": server.url, "progress": False}
    normal, flex = column.aichat.estimate(**where), column.aichat.estimate(**where, tier="flex")
    assert flex.cost_usd == pytest.approx(normal.cost_usd / 2)
    assert (normal.tier, flex.tier) == ("", "flex")
    assert "(tier flex)" in str(flex)
    run = column.aichat.run(**where, tier="flex")
    assert {body["service_tier"] for body in server.bodies} == {"flex"}
    # The tier is no part of the key: what flex has answered is not asked again.
    assert column.aichat.estimate(**where).stored == 2
    assert run.usage.cost_usd == pytest.approx(run.usage.input_tokens / 2_000)
