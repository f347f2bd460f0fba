import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from servers import ChatServer, Received, status, text

import aichat_magic  # noqa: F401  # it is what gives pandas the accessor


def ask(series: "pd.Series[str]", server: ChatServer, **options: object) -> "pd.Series[str]":
    return series.aichat.complete(model="openai/m", base_url=server.url, **options)  # type: ignore[attr-defined, no-any-return]  # an accessor


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

    with ChatServer(answer) as server, pytest.warns(UserWarning, match="1 of 3"):  # type: ignore[arg-type]  # an Answer
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
        "assert not [f for f in sys.meta_path if 'Pandas' in type(f).__name__]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
