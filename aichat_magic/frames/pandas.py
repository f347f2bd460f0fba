"""The accessors `Series.aichat` and `DataFrame.aichat` of pandas."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Never, Unpack

import pandas as pd

from ..batching.estimate import Estimate, estimate_run
from ..batching.keywords import BatchKeywords
from ..batching.options import BatchOptions, Row
from ..batching.run import BatchRun, run_rows
from ..chat import chat
from ..chat.keywords import CallKeywords, document_keywords
from ..core.errors import BadInputError, PromptError
from ..core.messages import messages_from
from ..core.options import CallOptions
from ..core.sync import run
from ..text.characters import fit
from .preview import Preview
from .template import ColumnTemplate, unreadable_row

_LAST_RUN = "_aichat_last_run"

_with_keywords = document_keywords(CallKeywords, BatchKeywords)


class _Accessor:
    """The base of both accessors: runs over the rows of a pandas object."""

    def __init__(self, data: Any) -> None:
        self._data = data

    @property
    def last_run(self) -> BatchRun | None:
        """Return the last run on this object, including an interrupted one; None if there was none.

        It belongs to this object: a copy, or the same column taken out of a frame again, has none.
        """
        found: BatchRun | None = self._data.__dict__.get(_LAST_RUN)
        return found

    def _keep(self, result: BatchRun) -> None:
        """Store a run as `last_run`, before it begins."""
        # pandas 3 makes a new accessor for each access, and treats a plain attribute of a frame as a column.
        object.__setattr__(self._data, _LAST_RUN, result)

    def _run(
        self, make_rows: Callable[[], Iterable[Row]], keywords: Mapping[str, Any], n: int | None = None
    ) -> BatchRun:
        """Run rows with the keywords of the user."""
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
        """Estimate a run with the keywords of the user."""
        options, rest = BatchOptions.from_keywords(keywords)
        # Nothing is sent, so that no key is needed.
        plan = options.plan(chat.shared_chat(), dataclasses.replace(CallOptions.from_keywords(rest), is_dry=True))
        return run(estimate_run(plan, make_rows()))

    def _extract(
        self, make_rows: Callable[[], Iterable[Row]], schema: Any, keywords: Mapping[str, Any]
    ) -> pd.DataFrame:
        """Extract typed columns with the keywords of the user."""
        from ..schema.schema import Schema
        from .extract import Extraction

        chosen, rest = BatchOptions.from_keywords(keywords)
        extraction = Extraction(chat.shared_chat(), Schema.of(schema), CallOptions.from_keywords(rest), chosen)
        return extraction.frame(make_rows, index=self._data.index, keep=self._keep)

    def _column(self, result: BatchRun, name: Any = None) -> pd.Series:
        """Return the texts of a run as a column, and warn if rows failed."""
        if (stopped := result.stop_error()) is not None:
            raise stopped
        if n_errors := result.progress.errors:
            first = next(iter(result.errors.values()))
            warnings.warn(
                f"{n_errors:,} of {len(result):,} rows failed and are <NA>. The first error: {first} "
                f"For all of them: `run = ....aichat.run(...)`, then `run.errors`.",
                UserWarning,
                stacklevel=3,
            )
        if result.introduction:
            chat.shared_chat().say(result.introduction)
        for remark in result.remarks():
            warnings.warn(remark, UserWarning, stacklevel=3)
        return pd.Series(list(result.texts()), index=self._data.index, name=name, dtype="string")


class SeriesAccessor(_Accessor):
    """`Series.aichat`: model calls for a column of prompts."""

    @_with_keywords
    def complete(self, *template: Never, **options: Unpack[BatchKeywords]) -> pd.Series:
        """Send every prompt of the column. Equal ones are sent once, missing ones not at all.

        A cell is a prompt or a list of messages (``{"role": ..., "content": ...}``). A reply to an earlier, equal
        request comes from the store and costs nothing.

        Args:
            *template: Not allowed: each cell is a prompt already.
            **options: `CallKeywords` and `BatchKeywords`:
                {keywords}

        Returns:
            A column of dtype ``string`` with the same index and name. Rows that are missing or failed are ``<NA>``
            (`last_run.errors` has the errors).

        Raises:
            BadInputError: An argument cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped, or no row could be answered; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        return self._column(self.run(*template, **options), self._data.name)

    @_with_keywords
    def run(self, *template: Never, **options: Unpack[BatchKeywords]) -> BatchRun:
        """Do the same as `complete`, but return the whole run: replies, errors, usage, cost.

        Args:
            *template: Not allowed: each cell is a prompt already.
            **options: `CallKeywords` and `BatchKeywords`:
                {keywords}

        Returns:
            The run. An error that stopped it is not raised: it is in `stopped_by`.
        """
        _refuse(template)
        return self._run(self._rows, options)

    @_with_keywords
    def extract(self, *template: Never, schema: Any, **options: Unpack[BatchKeywords]) -> pd.DataFrame:
        """Send every prompt of the column, and return typed columns.

        Args:
            *template: Not allowed: each cell is a prompt already.
            schema: The schema of every answer, as for `DataFrame.aichat.extract`.
            **options: `CallKeywords` and `BatchKeywords`:
                {keywords}

        Returns:
            Typed columns, as from `DataFrame.aichat.extract`.

        Raises:
            BadInputError: The schema or an option cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        _refuse(template)
        return self._extract(self._rows, schema, options)

    @_with_keywords
    def estimate(self, *template: Never, **options: Unpack[BatchKeywords]) -> Estimate:
        """Count what `complete` would send: rows, unique and stored requests, tokens, cost. Sends nothing.

        Args:
            *template: Not allowed: each cell is a prompt already.
            **options: `CallKeywords` and `BatchKeywords`:
                {keywords}
        """
        _refuse(template)
        return self._estimate(self._rows, options)

    def _rows(self) -> Iterator[Row]:
        """Return the rows of the column."""
        return rows_of(self._data)


def _refuse(template: tuple[object, ...]) -> None:
    """Refuse a column template for a column of prompts.

    Raises:
        BadInputError: There is one.
    """
    if template:
        raise BadInputError(
            "A column takes no column template: each of its cells is a prompt already. Use the template on the table: "
            'df.aichat.complete("... {column} ...").'
        )


class FrameAccessor(_Accessor):
    """`DataFrame.aichat`: model calls with a column template."""

    @_with_keywords
    def complete(self, template: str, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> pd.Series:
        """Send one prompt for every row, made from its columns.

        Args:
            template: A column template, that is a prompt with columns in braces: ``"{user.name}: {price ($)}"``. Any
                name goes. JSON and quoted text in braces, and doubled braces, are text; what nearly names a column, or
                reads as a name, is an error.
            raw: Whether all braces are text; the prompt of every row is then the same.
            **options: `CallKeywords` and `BatchKeywords`:
                {keywords}

        Returns:
            A column of dtype ``string`` with the same index. Rows that failed or have a missing value are ``<NA>``.

        Raises:
            PromptError: The column template names a column that does not exist; nothing was sent.
            BadInputError: Another argument cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped, or no row could be answered; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        return self._column(self.run(template, raw=raw, **options))

    @_with_keywords
    def run(self, template: str, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> BatchRun:
        """Do the same as `complete`, but return the whole run: replies, errors, usage, cost.

        Args:
            template: A column template, as for `complete`.
            raw: Whether all braces are text.
            **options: `CallKeywords` and `BatchKeywords`:
                {keywords}

        Returns:
            The run. An error that stopped it is not raised: it is in `stopped_by`.
        """
        return self._run(self._rows(template, raw), options)

    @_with_keywords
    def extract(
        self, template: str, *, schema: Any, raw: bool = False, **options: Unpack[BatchKeywords]
    ) -> pd.DataFrame:
        """Send one prompt for every row, and return typed columns.

        Args:
            template: A column template, as for `complete`.
            raw: Whether all braces are text.
            schema: The schema of every answer: a pydantic model, a dataclass, a TypedDict, a NamedTuple, an enum,
                a JSON schema as a dict, or an annotation such as ``Literal["good", "bad"]``.
            **options: `CallKeywords` and `BatchKeywords`:
                {keywords}

        Returns:
            One column for each field, with the same index: enums as categories, whole numbers as ``Int64``, and so on.
            If an answer does not satisfy the schema, the model is asked once more. Rows that fail again are ``<NA>``,
            with their error in ``extract_error`` and what the model wrote in ``extract_raw``.

        Raises:
            BadInputError: The column template, the schema or an option cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        return self._extract(self._rows(template, raw), schema, options)

    @_with_keywords
    def estimate(self, template: str, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> Estimate:
        """Count what `complete` would send: rows, unique and stored requests, tokens, cost. Sends nothing.

        Args:
            template: A column template, as for `complete`.
            raw: Whether all braces are text.
            **options: `CallKeywords` and `BatchKeywords`:
                {keywords}
        """
        return self._estimate(self._rows(template, raw), options)

    @_with_keywords
    def preview(
        self, template: str, n: int = 5, *, raw: bool = False, **options: Unpack[BatchKeywords]
    ) -> pd.DataFrame:
        """Send the first rows only, and return prompts and replies side by side, with tokens and cost.

        Args:
            template: A column template, as for `complete`.
            raw: Whether all braces are text.
            n: Number of rows, >= 1.
            **options: `CallKeywords` and `BatchKeywords`:
                {keywords}

        Returns:
            Prompt, reply, error, tokens, cost and seconds of each of these rows.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise BadInputError(f"n must be a number of rows, 1 or more, not {n!r}.")
        head = FrameAccessor(self._data.head(n))
        make_rows = head._rows(template, raw)
        result = head._run(make_rows, options)
        self._keep(result)
        frame = result.frame().drop(columns=["model", "finish_reason"])
        frame.insert(0, "prompt", pd.array([_prompt(row) for row in make_rows()], dtype="string"))
        return Preview(frame)

    def _rows(self, template: str, is_raw: bool = False) -> Callable[[], Iterable[Row]]:
        """Return a function that fills the column template for every row."""
        parsed, columns = self._parsed(template, is_raw)
        return lambda: parsed.rows(columns, is_missing, len(self._data))

    def _parsed(self, template: str, is_raw: bool = False) -> tuple[ColumnTemplate, list[pd.Series]]:
        """Return the parsed column template, and the columns that it names."""
        parsed = ColumnTemplate.parse(template, self._data.columns, is_raw=is_raw)
        return parsed, [self._data.iloc[:, position] for position in parsed.columns]


def _prompt(row: Row) -> str | None:
    """Return the prompt of a row as a column can hold it, if it has one."""
    return fit(row) if isinstance(row, str) else None


def is_missing(value: Any) -> bool:
    """Tell whether a cell is missing: None, NaN, NA, NaT."""
    if isinstance(value, str):
        return False
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def rows_of(series: pd.Series) -> Iterator[Row]:
    """Yield the cells of a column as rows of a run."""
    for position, value in enumerate(series):
        yield None if is_missing(value) else value if isinstance(value, str) else _row_from(value, position)


def _row_from(value: Any, position: int) -> Row:
    """Return the row for a cell that is not text: a conversation, the value as text, or the error of the row."""
    try:
        if not isinstance(value, (list, tuple)):
            return str(value)
        messages = messages_from(value)
    except PromptError as error:
        return PromptError(f"Row {position} is no conversation: {error}")
    except Exception as error:
        return unreadable_row(position, error)
    return messages or PromptError(f"Row {position} is no conversation: it has no message.")


def register() -> None:
    """Register the accessors with pandas; a second call does nothing."""
    for owner, accessor, decorator in (
        (pd.Series, SeriesAccessor, pd.api.extensions.register_series_accessor),
        (pd.DataFrame, FrameAccessor, pd.api.extensions.register_dataframe_accessor),
    ):
        if getattr(owner, "aichat", None) is not accessor:
            decorator("aichat")(accessor)


# If this module is imported before pandas, the import hook calls for it while it is not yet complete.
register()
