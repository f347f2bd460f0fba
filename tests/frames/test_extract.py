"""Typed columns out of replies, through the accessor, against a loopback server."""

import enum
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pydantic
import pytest
from servers import ChatServer, Received, text

import aichat_magic  # noqa: F401  # it is what gives pandas the accessor
from aichat_magic.core.errors import BadInputError, PromptError


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


@dataclass
class Review:
    mood: Mood
    stars: int
    is_spam: bool
    when: datetime | None = None


GOOD = json.dumps({"mood": "good", "stars": 5, "is_spam": False, "when": "2026-01-02T03:04:05"})


def extract(frame: pd.DataFrame, server: ChatServer, **options: Any) -> pd.DataFrame:
    options = {"schema": Review, "model": "openai/m", "base_url": server.url, "store": False, **options}
    result: pd.DataFrame = frame.aichat.extract("{body}", **options)
    return result


def test_fields_become_typed_columns() -> None:
    frame = pd.DataFrame({"body": ["a", "b", None]}, index=[7, 7, 9])
    with ChatServer(lambda received, attempt: text(GOOD)) as server:
        found = extract(frame, server)
        sent = server.requests[0].json["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["name"] == "Review"
    assert found.index.tolist() == [7, 7, 9]
    assert found.dtypes.astype(str).to_dict() == {
        "mood": "category", "stars": "Int64", "is_spam": "boolean", "when": "datetime64[us]",
    }  # fmt: skip
    assert found["mood"].cat.categories.tolist() == ["good", "bad"]
    assert found["stars"].tolist()[:2] == [5, 5]
    assert found["stars"].isna().tolist() == [False, False, True]


def test_joined_frame_has_both() -> None:
    frame = pd.DataFrame({"body": ["a"]})
    with ChatServer(lambda received, attempt: text(GOOD)) as server:
        joined = frame.join(extract(frame, server))
    assert joined.columns.tolist() == ["body", "mood", "stars", "is_spam", "when"]


def test_wrong_answer_is_asked_for_once_more_with_what_was_wrong() -> None:
    def answer(received: Received, attempt: int) -> Any:
        is_repair = len(received.json["messages"]) == 3
        return text(GOOD if is_repair else "five stars, I would say")

    with ChatServer(answer) as server:
        found = extract(pd.DataFrame({"body": ["a"]}), server)
        first, second = (received.json["messages"] for received in server.requests)
    assert found["stars"].tolist() == [5]
    assert "extract_error" not in found
    assert second[:2] == [first[0], {"role": "assistant", "content": "five stars, I would say"}]
    assert "did not satisfy the schema" in second[2]["content"]


def test_row_that_never_validates_keeps_its_text_and_its_error() -> None:
    def answer(received: Received, attempt: int) -> Any:
        return text("no idea" if received.json["messages"][0]["content"] == "bad" else GOOD)

    with ChatServer(answer) as server:
        found = extract(pd.DataFrame({"body": ["good", "bad"]}), server)
        assert len(server.requests) == 3
    assert found["stars"].isna().tolist() == [False, True]
    assert found["extract_raw"].tolist()[1] == "no idea"
    assert found["extract_error"].notna().tolist() == [False, True]


def test_second_questions_come_out_of_the_same_budget() -> None:
    """Also where the server counts no tokens."""
    frame = pd.DataFrame({"body": [f"a{number}" for number in range(20)]})
    with ChatServer(lambda received, attempt: text("five stars, I would say", usage=False)) as server:
        found = extract(frame, server, max_total_tokens=400, concurrency=4)  # the first 20 take 300
        assert 20 <= len(server.requests) <= 21
    assert found["extract_error"].notna().all()


def test_provider_without_constrained_output_is_instructed() -> None:
    found = pd.DataFrame({"body": ["x"]}).aichat.extract(
        "{body}", schema=Literal["a", "b"], model="echo/echo", store=False
    )
    assert found["extract_raw"].notna().all()
    assert "JSON only" in found["extract_raw"].iloc[0]


def test_value_that_a_validator_makes_is_no_gap() -> None:
    class Loud(pydantic.BaseModel):
        mood: Literal["good", "bad"]

        @pydantic.field_validator("mood")
        @classmethod
        def shout(cls, mood: str) -> str:
            return mood.upper()

    with ChatServer(lambda received, attempt: text('{"mood": "good"}')) as server:
        found = extract(pd.DataFrame({"body": ["a", None]}), server, schema=Loud)
    assert found["mood"].dtype == "category"
    assert found["mood"].tolist()[0] == "GOOD"
    assert found["mood"].isna().tolist() == [False, True]


def test_field_that_is_called_as_our_own_columns_is_refused() -> None:
    schema = {"type": "object", "properties": {"extract_error": {"type": "string"}}}
    with ChatServer() as server:
        with pytest.raises(BadInputError, match=r"'extract_error'.*another name"):
            extract(pd.DataFrame({"body": ["a"]}), server, schema=schema)
        assert server.requests == []


def test_wrong_schema_or_template_sends_nothing() -> None:
    with ChatServer() as server:
        frame = pd.DataFrame({"body": ["a"]})
        with pytest.raises(BadInputError, match="cannot be a schema"):
            extract(frame, server, schema="Review")
        with pytest.raises(PromptError, match=r"'bdy'.*'body'"):
            frame.aichat.extract("{bdy}", schema=Review, model="openai/m", base_url=server.url)
        assert server.requests == []


@pytest.mark.slow
def test_embedded_model_is_held_to_the_schema(model_cache: Path) -> None:
    frame = pd.DataFrame({"body": ["I love it", "It broke at once"]})
    found = frame.aichat.extract(
        "Is this review good or bad? {body}", schema=Mood, model="local/smollm2-135m", temperature=0, max_tokens=40
    )
    assert "extract_error" not in found
    assert set(found.iloc[:, 0].dropna()) <= {"good", "bad"}
