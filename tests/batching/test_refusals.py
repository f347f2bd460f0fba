"""Refusals: a row's own, and those that meet every row and stop the run before it has sent them all."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Literal

import pytest
from simulation import run_batch

from aichat_magic.batching.refusals import quota_text, same_words
from aichat_magic.batching.runner import BatchRunner
from aichat_magic.core.errors import (
    AichatError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    EmptyReplyError,
    FlaggedPromptError,
    MalformedReplyError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    UnexpectedError,
)
from aichat_magic.core.messages import Reply

ROWS = [f"row {number}" for number in range(2000)]


def n_right(runner: BatchRunner) -> int:
    return sum(isinstance(outcome, Reply) for outcome in runner.outcomes())


def number_of(prompt: str) -> int:
    return int(prompt.split()[1])


EVERYBODYS: dict[str, Callable[[str], AichatError]] = {
    "option": lambda prompt: BadRequestError(
        f"openai refused the request (400): Unsupported value: 'temperature' (request req_{number_of(prompt):08x}).",
        status=400,
    ),
    "prompt quoted": lambda prompt: BadRequestError(f'Cannot use "{prompt}" with 17.5 at once.', status=422),
    "no right": lambda prompt: PermissionDeniedError("Your project has no access to the model.", status=403),
    "no JSON": lambda prompt: MalformedReplyError("The server sent an HTML page instead of JSON."),
    "bug": lambda prompt: UnexpectedError("Provider 'x' failed: KeyError: 'choices'"),
    "cut": lambda prompt: EmptyReplyError("The reply was cut at max_tokens=5.", finish_reason="length"),
}


@pytest.mark.parametrize("in_flight", ["auto", 8, 1])
@pytest.mark.parametrize("error", EVERYBODYS.values(), ids=EVERYBODYS)
def test_refusal_of_the_first_rows_stops_the_run(
    error: Callable[[str], AichatError], in_flight: int | Literal["auto"]
) -> None:
    runner, _ = run_batch(ROWS, concurrency=in_flight, fault=lambda prompt, attempt: error(prompt))  # type: ignore[arg-type,return-value]
    assert 8 <= runner.calls <= 20
    stop = str(runner.stopped_by)
    assert str(error("row 7"))[:10] in stop
    assert "8 answers" in stop
    assert "run again" in stop
    assert len(runner.errors()) <= 7
    assert runner.pending == len(runner) - len(runner.errors())


def test_faults_between_them_do_not_hide_it() -> None:
    def fault(prompt: str, attempt: int) -> AichatError:
        if number_of(prompt) % 3 == 0 and attempt == 1:
            return ServerError("down", status=500)
        return BadRequestError("Unknown option 'top_q'.", status=400)

    runner, _ = run_batch(ROWS, concurrency="auto", fault=fault)  # type: ignore[arg-type]
    assert isinstance(runner.stopped_by, BadRequestError)
    assert runner.calls <= 40


OWN: dict[str, Callable[[str], AichatError]] = {
    "flagged, 403": lambda prompt: PermissionDeniedError("Your prompt was flagged.", status=403),
    "flagged, 400": lambda prompt: FlaggedPromptError("The prompt was filtered.", status=400),
    "bad request": lambda prompt: BadRequestError("Invalid.", status=400),
    "too large": lambda prompt: BadRequestError("Too large.", status=413),
    "too long": lambda prompt: ContextLengthError("Too long.", status=400),
    "unprocessable": lambda prompt: BadRequestError("Unprocessable.", status=422),
    "filtered": lambda prompt: EmptyReplyError("Filtered.", finish_reason="content_filter"),
}


@pytest.mark.parametrize("bad", [(150,), (0,), (0, 150, 299)], ids=str)
@pytest.mark.parametrize("error", OWN.values(), ids=OWN)
def test_refusal_of_single_rows_is_theirs(error: Callable[[str], AichatError], bad: tuple[int, ...]) -> None:
    runner, _ = run_batch(
        ROWS[:300],
        concurrency="auto",
        fault=lambda prompt, attempt: error(prompt) if number_of(prompt) in bad else None,  # type: ignore[arg-type,return-value]
    )
    assert runner.stopped_by is None
    assert n_right(runner) == 300 - len(bad)
    assert tuple(runner.errors()) == bad


@pytest.mark.parametrize("name", ["flagged, 400", "too large", "too long", "filtered"])
@pytest.mark.parametrize("bad", [range(100), range(200, 300)], ids=["first", "last"])
def test_rows_that_are_bad_by_themselves_may_be_many(name: str, bad: range) -> None:
    """Such as those that are left for a second run, or the longest of a sorted frame."""
    runner, _ = run_batch(
        ROWS[:300],
        concurrency="auto",
        fault=lambda prompt, attempt: OWN[name](prompt) if number_of(prompt) in bad else None,  # type: ignore[arg-type,return-value]
    )
    assert runner.stopped_by is None
    assert list(runner.errors()) == list(bad)


def test_wrong_rows_at_the_end_of_a_run_are_errors_of_theirs() -> None:
    runner, _ = run_batch(
        ROWS[:300],
        concurrency="auto",
        fault=lambda prompt, attempt: BadRequestError("Invalid.", status=400) if number_of(prompt) >= 100 else None,
    )
    assert runner.stopped_by is None
    assert len(runner.errors()) == 200


@pytest.mark.parametrize(
    ("error", "most"),
    [
        (AuthenticationError("The key was revoked.", status=401), 12),
        (NotFoundError("No model of this name.", status=404), 12),
        (PermissionDeniedError("No rights any more.", status=403), 20 + 64),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_wrong_in_the_middle_for_everybody_stops_the_run(error: AichatError, most: int) -> None:
    runner, _ = run_batch(
        ROWS,
        concurrency=8,
        fault=lambda prompt, attempt: (
            type(error)(*error.args, status=error.status) if number_of(prompt) >= 500 else None
        ),  # type: ignore[attr-defined,call-arg]
    )
    assert type(runner.stopped_by) is type(error)
    assert n_right(runner) == 500
    assert runner.calls <= 500 + most
    assert len(runner.errors()) < 20 + 8
    assert runner.pending > 0


def test_answers_from_the_store_do_not_hide_that_nothing_succeeds() -> None:
    runner, _ = run_batch(
        [*ROWS, *ROWS], concurrency=4, fault=lambda prompt, attempt: BadRequestError("No.", status=400)
    )
    assert runner.calls <= 12


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Invalid value 17 at row 3", "Invalid value 9.5 at row 12"),
        ("Request req_8fa3 refused", "Request req_77c0d2 refused"),
        ("Cannot read 'a cat' here", "Cannot read 'two dogs' here"),
        ('"x" is not allowed', '"y" is not allowed'),
        ("id 550e8400-e29b-41d4-a716-446655440000 failed", "id 110e8400-aaaa-bbbb-cccc-446655440001 failed"),
    ],
)
def test_words_are_the_same_whatever_numbers_and_quotes_are(one: str, other: str) -> None:
    assert same_words(BadRequestError(one, status=400)) == same_words(BadRequestError(other, status=400))


def test_other_words_are_others() -> None:
    words = {
        same_words(error)
        for error in (
            BadRequestError("Unknown option", status=400),
            BadRequestError("Invalid image", status=400),
            PermissionDeniedError("Unknown option", status=403),
        )
    }
    assert len(words) == 3


def test_quota_is_there_again_at_a_time_of_the_clock() -> None:
    now = datetime.datetime(2026, 11, 29, 20, 0)
    assert "at 21:00, in 1 h (the server asks for 3600 s)." in quota_text(3600, now)
    assert "at 03:00 on 2026-11-30, in 7 h " in quota_text(7 * 3600, now)
    assert quota_text(1e18, now) == ""
