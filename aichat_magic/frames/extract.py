"""Typed columns out of replies: the schema is sent, every answer is checked, a wrong one is asked for once more."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd

from ..batching.budget import Budget
from ..batching.options import BatchOptions, Row
from ..batching.run import BatchRun, run_rows
from ..chat.chat import Chat
from ..core.errors import AichatError, BadInputError
from ..core.json_text import without_unfit
from ..core.messages import Message, Reply
from ..core.options import CallOptions
from ..schema.schema import Schema, SchemaError, repair_prompt
from ..text.characters import fit, replaced_line

# The columns beside those of the schema, where rows failed.
_ERROR = "extract_error"
_RAW = "extract_raw"


class CutAnswerError(SchemaError):
    """The answer was cut, by its limit or by a filter: asked again with the same, it would be cut again."""


class Extraction:
    """One extraction over rows: a run, and a second one over the rows whose answers did not satisfy the schema."""

    def __init__(self, chat: Chat, schema: Schema, given: CallOptions, options: BatchOptions) -> None:
        """Prepare; nothing is sent.

        Args:
            chat: Who asks.
            schema: What every answer must satisfy.
            given: Model, sampling options and so on.
            options: How the runs go.

        Raises:
            BadInputError: Something given cannot be used.
            MissingKeyError: No key for the provider.
        """
        taken = sorted({field.name for field in schema.fields} & {_ERROR, _RAW})
        if taken:
            raise BadInputError(
                f"The schema has a field called {taken[0]!r}, and so is the column that tells what went wrong. "
                "Give the field another name."
            )
        self._chat = chat
        self._schema = schema
        self._options = options
        call = chat.call((Message("user", "-"),), given)
        self._is_constrained = call.provider.supports_schema
        self._most_tokens = call.request.options.max_tokens
        wire = {"name": schema.name, "strict": schema.is_strict, "schema": schema.json_schema}
        if (asked := json.dumps(wire, ensure_ascii=False)) != fit(asked):
            raise BadInputError(
                "The schema holds half of a surrogate pair, which no column may hold. Mend its names and values."
            )
        constrained = dataclasses.replace(given.options, schema=asked)
        self._given = dataclasses.replace(given, options=constrained) if self._is_constrained else given

    def frame(
        self,
        make_rows: Callable[[], Iterable[Row]],
        *,
        index: pd.Index,
        keep: Callable[[BatchRun], None],
    ) -> pd.DataFrame:
        """Run, check, ask once more, and make the columns.

        Args:
            make_rows: Gives the rows; read up to three times.
            index: Labels of the rows.
            keep: Handed the first run, that of all rows, before it begins.

        Returns:
            One typed column for each field of the schema. Where rows failed, ``extract_error`` says why and
            ``extract_raw`` holds what the model wrote.

        Raises:
            BatchStoppedError: The run was stopped, or not one row could be answered; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        first = self._run(lambda: self._asked(make_rows()), index, keep)
        if first.stopped_by is not None and (stopped := first.stop_error()) is not None:
            raise stopped
        answers = [self._checked(outcome) for outcome in first.outcomes()]
        wrong = {
            row: error
            for row, (_, error) in enumerate(answers)
            if isinstance(error, SchemaError) and not isinstance(error, CutAnswerError)
        }
        replaced = self._replaced(first)
        if wrong and first.budget.allows():
            texts = {row: text for row, text in enumerate(first.texts()) if row in wrong}
            # Whatever stops it, what it has mended counts; the other rows keep their first error.
            repaired = self._run(lambda: self._repairs(make_rows(), texts, wrong), index, _forget, first.budget)
            for row, outcome in enumerate(repaired.outcomes()):
                if row in wrong and isinstance(outcome, Reply):
                    answers[row] = self._checked(outcome)
            replaced += self._replaced(repaired)
        for line in replaced_line(replaced):
            warnings.warn(line, UserWarning, stacklevel=4)
        return self._columns(answers, index)

    def _run(
        self,
        make_rows: Callable[[], Iterable[Row]],
        index: pd.Index,
        keep: Callable[[BatchRun], None],
        budget: Budget | None = None,
    ) -> BatchRun:
        return run_rows(
            self._chat,
            make_rows,
            n_rows=len(index),
            given=self._given,
            options=self._options,
            index=index,
            keep=keep,
            budget=budget,
        )

    def _asked(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows as they are sent: with the instructions, where nothing else holds the model to the schema."""
        for row in rows:
            if row is None or isinstance(row, AichatError) or self._is_constrained:
                yield row
            elif isinstance(row, str):
                yield f"{row}\n\n{self._schema.instructions()}"
            else:
                yield (*row[:-1], Message(row[-1].role, f"{row[-1].content}\n\n{self._schema.instructions()}"))

    def _repairs(
        self, rows: Iterable[Row], texts: dict[int, str | None], wrong: dict[int, SchemaError]
    ) -> Iterator[Row]:
        """For each wrong answer the conversation so far and what was wrong with it; nothing for the others."""
        for number, row in enumerate(self._asked(rows)):
            if row is None or isinstance(row, AichatError) or number not in wrong:
                yield None
                continue
            asked = (Message("user", row),) if isinstance(row, str) else row
            again = Message("user", repair_prompt(self._schema, wrong[number]))
            yield (*asked, Message("assistant", texts[number] or ""), again)

    def _checked(self, outcome: Any) -> tuple[dict[str, Any] | str | None, Exception | None]:
        """The row of an outcome, or its raw text and what is wrong with it."""
        if not isinstance(outcome, Reply):
            return None, outcome
        try:
            return self._schema.row(self._schema.parse(outcome.text)), None
        except SchemaError as error:
            return outcome.text, self._cut(outcome) or error

    def _cut(self, reply: Reply) -> CutAnswerError | None:
        """The error of an answer that was cut, which explains whatever is wrong with it; None for a whole one."""
        if reply.finish_reason == "length":
            most = self._most_tokens
            limit = "at the limit of tokens" if most is None else f"at max_tokens={most}"
            return CutAnswerError(f"the answer was cut {limit}; raise max_tokens")
        if reply.finish_reason == "content_filter":
            return CutAnswerError("the answer was cut by the provider's content filter; change the prompt")
        return None

    def _replaced(self, run: BatchRun) -> int:
        """Count the replies that held characters that no text may hold, also those written as escapes."""
        texts = {text for text in run.texts() if text is not None and "\\u" in text}
        return run.replaced + sum(without_unfit(text) != text for text in texts)

    def _columns(self, answers: list[tuple[Any, Exception | None]], index: pd.Index) -> pd.DataFrame:
        """The columns of the schema, and those for errors where there are any."""
        rows = [row if isinstance(row, dict) else {} for row, _ in answers]
        columns: dict[str, Any] = {}
        for field in self._schema.fields:
            values = [row.get(field.name) for row in rows]
            dtype: Any = field.dtype
            if dtype == "category":
                # A validator may have made another value of one that was allowed: it is right, and no gap.
                made = [value for value in values if value is not None]
                dtype = pd.CategoricalDtype(list(dict.fromkeys([*field.categories, *made])))
            columns[field.name] = pd.Series(values, index=index, dtype=dtype)
        if any(error is not None for _, error in answers):
            errors = [None if error is None else fit(str(error)) for _, error in answers]
            raw = [row if isinstance(row, str) else None for row, _ in answers]
            columns[_ERROR] = pd.Series(errors, index=index, dtype="string")
            columns[_RAW] = pd.Series(raw, index=index, dtype="string")
        return pd.DataFrame(columns, index=index)


def _forget(run: BatchRun) -> None:
    """Not the run that the caller wants to look at: most of its rows have nothing to ask."""
