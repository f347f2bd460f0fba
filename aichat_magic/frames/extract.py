"""Extraction of typed columns: the schema is sent, every answer is validated, an invalid one is asked for again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..batching.budget import Budget
from ..batching.columns import TypedColumn
from ..batching.options import BatchOptions, Row
from ..batching.run import BatchRun, run_rows
from ..chat.chat import Chat
from ..core.answers import incomplete
from ..core.errors import AichatError, BadInputError
from ..core.json_text import without_unfit
from ..core.messages import Message, Reply
from ..core.options import CallOptions
from ..core.user_warnings import warn_user
from ..schema.schema import Schema, SchemaError, repair_prompt
from ..text.characters import fit, replaced_line
from .table import DataTable

# Additional columns, if rows failed.
_ERROR_COLUMN = "extract_error"
_RAW_COLUMN = "extract_raw"


class TruncatedAnswerError(SchemaError):
    """An answer cut by a token limit or a content filter, or a refusal. A second question would end alike."""


class Extraction:
    """An extraction over rows: a run, and a second one for the rows whose answers do not satisfy the schema."""

    def __init__(self, chat: Chat, schema: Schema, given: CallOptions, options: BatchOptions) -> None:
        """Create an extraction; nothing is sent.

        Args:
            chat: The chat that sends the requests.
            schema: The schema of every answer.
            given: Model, sampling options and so on of each call.
            options: Options of both runs.

        Raises:
            BadInputError: An argument cannot be used.
            MissingKeyError: The provider needs a key and there is none.
        """
        taken = sorted({field.name for field in schema.fields} & {_ERROR_COLUMN, _RAW_COLUMN})
        if taken:
            raise BadInputError(
                f"The schema has a field called {taken[0]!r}, which is the name of a column for failed rows. "
                "Give the field another name."
            )
        self._chat = chat
        self._schema = schema
        self._options = options
        call = chat.call((Message("user", "-"),), given)
        self._is_enforced = call.provider.supports_schema
        self._asked = call.request.options
        wire = {"name": schema.name, "strict": schema.is_strict, "schema": schema.json_schema}
        if (schema_text := json.dumps(wire, ensure_ascii=False)) != fit(schema_text):
            raise BadInputError(
                "The schema contains half of a surrogate pair, which a column cannot hold. "
                "Remove it from its names and values."
            )
        options_with_schema = dataclasses.replace(given.options, schema=schema_text)
        self._given = dataclasses.replace(given, options=options_with_schema) if self._is_enforced else given

    def frame(
        self,
        make_rows: Callable[[], Iterable[Row]],
        *,
        table: DataTable,
        keep: Callable[[BatchRun], None],
    ) -> Any:
        """Run, validate, ask again where needed, and make the columns.

        Args:
            make_rows: Returns the rows; called up to three times.
            table: The table of the rows.
            keep: Called with the first run, that of all rows, before it begins.

        Returns:
            One typed column for each field of the schema. If rows failed, ``extract_error`` has their errors and
            ``extract_raw`` what the model wrote.

        Raises:
            BadInputError: The fields cannot be columns beside the rows; nothing was sent.
            BatchStoppedError: The run was stopped, or no row could be answered; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        table.check_results([*(field.name for field in self._schema.fields), _ERROR_COLUMN, _RAW_COLUMN])
        first = self._run(lambda: self._prompted_rows(make_rows()), table, keep)
        if first.introduction:
            self._chat.say(first.introduction)
        if first.stopped_by is not None and (stopped := first.stop_error()) is not None:
            raise stopped
        answers = [self._validated(outcome) for outcome in first.outcomes()]
        wrong = {
            row: error
            for row, (_, error) in enumerate(answers)
            if isinstance(error, SchemaError) and not isinstance(error, TruncatedAnswerError)
        }
        replaced, otherwise = self._replaced(first), dict.fromkeys(first.sent_otherwise)
        if wrong and first.budget.allows():
            texts = {row: text for row, text in enumerate(first.texts()) if row in wrong}
            # Even if it is stopped, its valid answers count; the other rows keep their first error.
            repaired = self._run(lambda: self._repair_rows(make_rows(), texts, wrong), table, _ignore_run, first.budget)
            for row, outcome in enumerate(repaired.outcomes()):
                if row in wrong and isinstance(outcome, Reply):
                    answers[row] = self._validated(outcome)
            replaced += self._replaced(repaired)
            otherwise |= dict.fromkeys(repaired.sent_otherwise)
        for line in (*otherwise, *replaced_line(replaced)):
            warn_user(line)
        return table.with_frame(self._columns(answers))

    def _run(
        self,
        make_rows: Callable[[], Iterable[Row]],
        table: DataTable,
        keep: Callable[[BatchRun], None],
        budget: Budget | None = None,
    ) -> BatchRun:
        """Run rows with the settings of this extraction."""
        return run_rows(
            self._chat,
            make_rows,
            n_rows=len(table),
            given=self._given,
            options=self._options,
            index=table.index,
            make_frame=table.make_frame,
            keep=keep,
            budget=budget,
        )

    def _prompted_rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows as they are sent: with instructions, if the provider does not enforce the schema."""
        for row in rows:
            if row is None or isinstance(row, AichatError) or self._is_enforced:
                yield row
            elif isinstance(row, str):
                yield f"{row}\n\n{self._schema.instructions()}"
            else:
                yield (*row[:-1], Message(row[-1].role, f"{row[-1].content}\n\n{self._schema.instructions()}"))

    def _repair_rows(
        self, rows: Iterable[Row], texts: dict[int, str | None], wrong: dict[int, SchemaError]
    ) -> Iterator[Row]:
        """Yield the conversation so far and a repair prompt for each invalid answer, None for other rows."""
        for number, row in enumerate(self._prompted_rows(rows)):
            if row is None or isinstance(row, AichatError) or number not in wrong:
                yield None
                continue
            asked = (Message("user", row),) if isinstance(row, str) else row
            again = Message("user", repair_prompt(self._schema, wrong[number]))
            yield (*asked, Message("assistant", texts[number] or ""), again)

    def _validated(self, outcome: Any) -> tuple[dict[str, Any] | str | None, Exception | None]:
        """Return the values of an outcome by field; or its raw text, if there is one, and the error."""
        if not isinstance(outcome, Reply):
            return None, outcome
        try:
            return self._schema.row(self._schema.parse(outcome.text)), None
        except SchemaError as error:
            reason = incomplete(outcome, self._asked)
            return outcome.text, TruncatedAnswerError(reason) if reason else error

    def _replaced(self, run: BatchRun) -> int:
        """Count the replies with invalid characters, including those written as JSON escapes."""
        texts = {text for text in run.texts() if text is not None and "\\u" in text}
        return run.replaced + sum(without_unfit(text) != text for text in texts)

    def _columns(self, answers: list[tuple[Any, Exception | None]]) -> dict[str, TypedColumn]:
        """Return the columns of the schema, and those for errors if there are any."""
        rows = [row if isinstance(row, dict) else {} for row, _ in answers]
        columns: dict[str, TypedColumn] = {}
        for field in self._schema.fields:
            values = [row.get(field.name) for row in rows]
            categories: tuple[Any, ...] = ()
            if field.dtype == "category":
                # A validator may convert an allowed value to another one, which is valid and must not become missing.
                made = [value for value in values if value is not None]
                categories = tuple(dict.fromkeys([*field.categories, *made]))
            columns[field.name] = TypedColumn(values, field.dtype, categories)
        if any(error is not None for _, error in answers):
            errors = [None if error is None else fit(str(error)) for _, error in answers]
            columns[_ERROR_COLUMN] = TypedColumn(errors, "string")
            columns[_RAW_COLUMN] = TypedColumn([row if isinstance(row, str) else None for row, _ in answers], "string")
        return columns


def _ignore_run(run: BatchRun) -> None:
    """Ignore the second run: `last_run` is the first one, which has all rows."""
