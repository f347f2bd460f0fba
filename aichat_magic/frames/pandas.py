"""`Series.aichat` and `DataFrame.aichat`: columns of prompts become columns of replies."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Never, Unpack

import pandas as pd

from ..batching.keywords import BatchKeywords
from ..batching.options import BatchOptions, Estimate, Row, estimate
from ..batching.run import BatchRun, run_rows
from ..chat import chat
from ..core.errors import BadInputError, PromptError
from ..core.messages import messages_from
from ..core.options import CallOptions
from ..core.sync import run
from ..text.characters import fit
from .preview import Preview
from .template import ColumnTemplate, unreadable

_LAST_RUN = "_aichat_last_run"


class _Accessor:
    """What both accessors share: a run over the rows of an object of pandas."""

    def __init__(self, data: Any) -> None:
        self._data = data

    @property
    def last_run(self) -> BatchRun | None:
        """The last run on this object, also one that was interrupted; None when there was none.

        It belongs to the object itself: a copy, or a column taken out of a frame once more, has none.
        """
        found: BatchRun | None = self._data.__dict__.get(_LAST_RUN)
        return found

    def _keep(self, result: BatchRun) -> None:
        """Remember a run before it begins."""
        # pandas 3 makes a new accessor at each access, and would take a plain attribute for a column.
        object.__setattr__(self._data, _LAST_RUN, result)

    def _run(
        self, make_rows: Callable[[], Iterable[Row]], keywords: Mapping[str, Any], n: int | None = None
    ) -> BatchRun:
        """Run rows, with the keywords of the user."""
        options, rest = BatchOptions.from_keywords(keywords)
        return run_rows(
            chat.shared_chat(),
            make_rows,
            n_rows=len(self._data) if n is None else n,
            given=CallOptions.from_keywords(rest),
            options=options,
            index=self._data.index,
            keep=self._keep,
        )

    def _estimate(self, make_rows: Callable[[], Iterable[Row]], keywords: Mapping[str, Any]) -> Estimate:
        options, rest = BatchOptions.from_keywords(keywords)
        # Nothing is sent, so that no key is needed.
        plan = options.plan(chat.shared_chat(), dataclasses.replace(CallOptions.from_keywords(rest), is_dry=True))
        return run(estimate(plan, make_rows()))

    def _extract(
        self, make_rows: Callable[[], Iterable[Row]], schema: Any, keywords: Mapping[str, Any]
    ) -> pd.DataFrame:
        from ..schema.schema import Schema
        from .extract import Extraction

        chosen, rest = BatchOptions.from_keywords(keywords)
        extraction = Extraction(chat.shared_chat(), Schema.of(schema), CallOptions.from_keywords(rest), chosen)
        return extraction.frame(make_rows, index=self._data.index, keep=self._keep)

    def _column(self, result: BatchRun, name: Any = None) -> pd.Series:
        """The texts of a run as a column; says how many rows failed."""
        if (stopped := result.stop_error()) is not None:
            raise stopped
        if n_errors := result.progress.errors:
            first = next(iter(result.errors.values()))
            warnings.warn(
                f"{n_errors:,} of {len(result):,} rows failed and are <NA>; the first: {first} "
                f"`run = ....aichat.run(...)` and `run.errors` tell them all.",
                UserWarning,
                stacklevel=3,
            )
        for remark in result.remarks():
            warnings.warn(remark, UserWarning, stacklevel=3)
        return pd.Series(list(result.texts()), index=self._data.index, name=name, dtype="string")


class SeriesAccessor(_Accessor):
    """`Series.aichat`: LLM calls on a column of prompts."""

    def complete(self, *template: Never, **options: Unpack[BatchKeywords]) -> pd.Series:
        """Ask every prompt of the column; equal ones are sent once, missing ones not at all.

        A cell may be a prompt or a list of messages (``{"role": ..., "content": ...}``). What was asked before is taken
        from the store and not paid again.

        Args:
            *template: Nothing: a column takes no template.
            **options: Model and sampling as for `aichat_magic.ask` (`model`, `system`, `temperature`, `timeout`, ...),
                the run as for `aichat_magic.batch` (`concurrency`, `requests_per_minute`, `tokens_per_minute`,
                `max_cost_usd`, `max_total_tokens`, `fresh`, `store`, `progress`, `max_retries`,
                `outage_patience_s`).

        Returns:
            A column of dtype ``string`` with the same index and name; a row whose prompt is missing or that failed is
            ``<NA>`` (`last_run.errors` has the errors).

        Raises:
            BadInputError: Something given cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped, or not one row could be answered; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        return self._column(self.run(*template, **options), self._data.name)

    def run(self, *template: Never, **options: Unpack[BatchKeywords]) -> BatchRun:
        """As `complete`, but give the whole run: replies, errors, usage, cost.

        Args:
            *template: Nothing: a column takes no template.
            **options: Model and sampling as for `aichat_magic.ask` (`model`, `system`, `temperature`, `timeout`, ...),
                the run as for `aichat_magic.batch` (`concurrency`, `requests_per_minute`, `tokens_per_minute`,
                `max_cost_usd`, `max_total_tokens`, `fresh`, `store`, `progress`, `max_retries`,
                `outage_patience_s`).

        Returns:
            The run. An error that stopped it is in `stopped_by`, and is not raised.
        """
        _refuse(template)
        return self._run(self._rows, options)

    def extract(self, *template: Never, schema: Any, **options: Unpack[BatchKeywords]) -> pd.DataFrame:
        """Ask every prompt of the column, and get typed columns back.

        Args:
            *template: Nothing: a column takes no template.
            schema: As `FrameAccessor.extract`.
            **options: As `complete`.

        Returns:
            As `FrameAccessor.extract`.

        Raises:
            BadInputError: The schema or an option cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        _refuse(template)
        return self._extract(self._rows, schema, options)

    def estimate(self, *template: Never, **options: Unpack[BatchKeywords]) -> Estimate:
        """What `complete` would send: rows, unique requests, those stored already, tokens, cost. Sends nothing.

        Args:
            *template: Nothing: a column takes no template.
            **options: Model and sampling as for `aichat_magic.ask` (`model`, `system`, `temperature`, `timeout`, ...),
                the run as for `aichat_magic.batch` (`concurrency`, `requests_per_minute`, `tokens_per_minute`,
                `max_cost_usd`, `max_total_tokens`, `fresh`, `store`, `progress`, `max_retries`,
                `outage_patience_s`).
        """
        _refuse(template)
        return self._estimate(self._rows, options)

    def _rows(self) -> Iterator[Row]:
        return rows_of(self._data)


def _refuse(template: tuple[object, ...]) -> None:
    """Refuse a template for a column.

    Raises:
        BadInputError: There is one.
    """
    if template:
        raise BadInputError(
            "A column takes no template: each of its cells is a prompt. A template over columns belongs to the table: "
            'df.aichat.complete("... {column} ...").'
        )


class FrameAccessor(_Accessor):
    """`DataFrame.aichat`: LLM calls with a template over the columns."""

    def complete(self, template: str, **options: Unpack[BatchKeywords]) -> pd.Series:
        """Ask one prompt for every row, made from its columns.

        Args:
            template: A prompt with columns in braces: ``"Classify: {title} {body text}"``.
            **options: Model and sampling as for `aichat_magic.ask` (`model`, `system`, `temperature`, `timeout`, ...),
                the run as for `aichat_magic.batch` (`concurrency`, `requests_per_minute`, `tokens_per_minute`,
                `max_cost_usd`, `max_total_tokens`, `fresh`, `store`, `progress`, `max_retries`,
                `outage_patience_s`).

        Returns:
            A column of dtype ``string`` with the same index; a row with a missing value, or that failed, is ``<NA>``.

        Raises:
            PromptError: The template names a column that is not there; nothing was sent.
            BadInputError: Something else given cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped, or not one row could be answered; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        return self._column(self.run(template, **options))

    def run(self, template: str, **options: Unpack[BatchKeywords]) -> BatchRun:
        """As `complete`, but give the whole run: replies, errors, usage, cost.

        Args:
            template: As `complete`.
            **options: Model and sampling as for `aichat_magic.ask` (`model`, `system`, `temperature`, `timeout`, ...),
                the run as for `aichat_magic.batch` (`concurrency`, `requests_per_minute`, `tokens_per_minute`,
                `max_cost_usd`, `max_total_tokens`, `fresh`, `store`, `progress`, `max_retries`,
                `outage_patience_s`).

        Returns:
            The run. An error that stopped it is in `stopped_by`, and is not raised.
        """
        return self._run(self._rows(template), options)

    def extract(self, template: str, *, schema: Any, **options: Unpack[BatchKeywords]) -> pd.DataFrame:
        """Ask one prompt for every row, and get typed columns back.

        Args:
            template: As `complete`.
            schema: What every answer must satisfy: a pydantic model, a dataclass, a TypedDict, a NamedTuple, an enum,
                a JSON schema as a dict, or an annotation such as ``Literal["good", "bad"]``.
            **options: As `complete`.

        Returns:
            One column for each field, with the same index: enums as categories, whole numbers as ``Int64``, and so on.
            An answer that does not satisfy the schema is asked for once more; a row that fails all the same is
            ``<NA>``, with its error in ``extract_error`` and what the model wrote in ``extract_raw``.

        Raises:
            BadInputError: The template, the schema or an option cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        return self._extract(self._rows(template), schema, options)

    def estimate(self, template: str, **options: Unpack[BatchKeywords]) -> Estimate:
        """What `complete` would send: rows, unique requests, those stored already, tokens, cost. Sends nothing.

        Args:
            template: As `complete`.
            **options: Model and sampling as for `aichat_magic.ask` (`model`, `system`, `temperature`, `timeout`, ...),
                the run as for `aichat_magic.batch` (`concurrency`, `requests_per_minute`, `tokens_per_minute`,
                `max_cost_usd`, `max_total_tokens`, `fresh`, `store`, `progress`, `max_retries`,
                `outage_patience_s`).
        """
        return self._estimate(self._rows(template), options)

    def preview(self, template: str, n: int = 5, **options: Unpack[BatchKeywords]) -> pd.DataFrame:
        """Ask for the first rows only, and show prompt and reply side by side with what they took.

        Args:
            template: As `complete`.
            n: How many rows, >= 1.
            **options: Model and sampling as for `aichat_magic.ask` (`model`, `system`, `temperature`, `timeout`, ...),
                the run as for `aichat_magic.batch` (`concurrency`, `requests_per_minute`, `tokens_per_minute`,
                `max_cost_usd`, `max_total_tokens`, `fresh`, `store`, `progress`, `max_retries`,
                `outage_patience_s`).

        Returns:
            Prompt, reply, error, tokens, cost and seconds of each of these rows.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise BadInputError(f"n must be a number of rows from 1, not {n!r}.")
        head = FrameAccessor(self._data.head(n))
        make_rows = head._rows(template)
        result = head._run(make_rows, options)
        self._keep(result)
        frame = result.frame().drop(columns=["model", "finish_reason"])
        frame.insert(0, "prompt", pd.array([_prompt(row) for row in make_rows()], dtype="string"))
        return Preview(frame)

    def _rows(self, template: str) -> Callable[[], Iterable[Row]]:
        names = [str(column) for column in self._data.columns]
        parsed = ColumnTemplate.parse(template, names)
        columns = [self._data.iloc[:, names.index(name)] for name in parsed.columns]
        return lambda: parsed.rows(columns, is_missing)


def _prompt(row: Row) -> str | None:
    """The prompt of a row as a column may hold it, where it has one."""
    return fit(row) if isinstance(row, str) else None


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, NA, NaT."""
    if isinstance(value, str):
        return False
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def rows_of(series: pd.Series) -> Iterator[Row]:
    """The cells of a column as rows of a batch, one by one."""
    for position, value in enumerate(series):
        yield None if is_missing(value) else value if isinstance(value, str) else _row_from(value, position)


def _row_from(value: Any, position: int) -> Row:
    """A cell that is no text: a conversation, or something with a text; or the error that its row fails with."""
    try:
        if not isinstance(value, (list, tuple)):
            return str(value)
        messages = messages_from(value)
    except PromptError as error:
        return PromptError(f"Row {position} is no conversation: {error}")
    except Exception as error:
        return unreadable(position, error)
    return messages or PromptError(f"Row {position} is no conversation: it has no message.")


def register() -> None:
    """Give pandas the accessors; again is harmless."""
    for owner, accessor, decorator in (
        (pd.Series, SeriesAccessor, pd.api.extensions.register_series_accessor),
        (pd.DataFrame, FrameAccessor, pd.api.extensions.register_dataframe_accessor),
    ):
        if getattr(owner, "aichat", None) is not accessor:
            decorator("aichat")(accessor)


# Whoever imports this room before pandas makes pandas call for it while it is still half made.
register()
