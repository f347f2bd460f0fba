"""The accessors `Series.aichat` and `DataFrame.aichat` of pandas and polars, for tables of any library."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Never, Unpack

from ..batching.columns import TypedColumn
from ..batching.embedding import EmbeddingRun
from ..batching.estimate import Estimate, estimate_run
from ..batching.keywords import BatchKeywords, RunKeywords
from ..batching.options import BatchOptions, Row
from ..batching.run import BatchRun, run_rows
from ..chat import chat
from ..chat.keywords import CallKeywords, document_keywords
from ..core.errors import BadInputError
from ..core.options import CallOptions
from ..core.sync import run_sync
from ..core.user_warnings import warn_user
from ..text.characters import fit
from ..text.numbers import counted
from .cells import rows_of
from .embedding import EmbedKeywords, embedding_run, with_embed_keywords
from .table import REPLY, VECTOR, DataTable
from .tables import table_of
from .template import ColumnTemplate

_LAST_RUN = "_aichat_last_run"
_NOT_IN_A_PREVIEW = ("model", "finish_reason")

_with_keywords = document_keywords(CallKeywords, RunKeywords)


class _Accessor:
    """The base of both accessors: runs over the rows of a frame or a column."""

    def __init__(self, data: Any) -> None:
        """Create an accessor.

        Args:
            data: A frame or a column of any library; or one as a `DataTable`, for several calls on the same rows.
        """
        self._data = data
        self._kept: Any = None

    @property
    def last_run(self) -> BatchRun | EmbeddingRun | None:
        """Return the last run on this object, including an interrupted one; None if there was none.

        It belongs to this object: a copy, or the same column taken out of a frame again, has none.
        """
        found: BatchRun | EmbeddingRun | None = getattr(_native(self._data), "__dict__", {}).get(_LAST_RUN, self._kept)
        return found

    def _keep(self, result: BatchRun | EmbeddingRun) -> None:
        """Store a run as `last_run`, before it begins."""
        self._kept = result
        # pandas 3 makes a new accessor for each access, and treats a plain attribute of a frame as a column. Arrow's
        # objects take no attributes.
        with contextlib.suppress(AttributeError, TypeError):
            object.__setattr__(_native(self._data), _LAST_RUN, result)

    def _table(self, n_rows: int | None = None) -> DataTable:
        """Return the rows, or the first of them, as a table."""
        if not isinstance(self._data, DataTable):
            return table_of(self._data, n_rows)
        return self._data if n_rows is None else self._data.head(n_rows)

    def _run(self, table: DataTable, make_rows: Callable[[], Iterable[Row]], keywords: Mapping[str, Any]) -> BatchRun:
        """Run rows with the keywords of the user."""
        options, rest = BatchOptions.from_keywords(keywords)
        return run_rows(
            chat.shared_chat(),
            make_rows,
            n_rows=len(table),
            given=CallOptions.from_keywords(rest),
            options=options,
            index=table.index,
            make_frame=table.make_frame,
            keep=self._keep,
        )

    def _estimate(self, make_rows: Callable[[], Iterable[Row]], keywords: Mapping[str, Any]) -> Estimate:
        """Estimate a run with the keywords of the user."""
        options, rest = BatchOptions.from_keywords(keywords)
        # Nothing is sent, so that no key is needed.
        plan = options.plan(chat.shared_chat(), dataclasses.replace(CallOptions.from_keywords(rest), is_dry=True))
        return run_sync(estimate_run(plan, make_rows()))

    def _extract(
        self, table: DataTable, make_rows: Callable[[], Iterable[Row]], schema: Any, keywords: Mapping[str, Any]
    ) -> Any:
        """Extract typed columns with the keywords of the user."""
        from ..schema.schema import Schema
        from .extract import Extraction

        chosen, rest = BatchOptions.from_keywords(keywords)
        extraction = Extraction(chat.shared_chat(), Schema.of(schema), CallOptions.from_keywords(rest), chosen)
        return extraction.frame(make_rows, table=table, keep=self._keep)

    def _embed(
        self,
        table: DataTable,
        make_rows: Callable[[], Iterable[Row]],
        positions: Sequence[int],
        keywords: Mapping[str, Any],
    ) -> Any:
        """Embed the rows of a table with the keywords of the user."""
        table.check_results([VECTOR])
        result = embedding_run(make_rows(), keywords, self._keep)
        return table.with_vectors(result.vectors, positions)

    def _preview(self, table: DataTable, make_rows: Callable[[], Iterable[Row]], keywords: Mapping[str, Any]) -> Any:
        """Run the rows of a table, and return prompts and replies side by side."""
        result = self._run(table, make_rows, keywords)
        columns = {"prompt": TypedColumn([_prompt(row) for row in make_rows()], "string"), **result.columns()}
        return table.preview({name: columns[name] for name in columns if name not in _NOT_IN_A_PREVIEW})

    def _column(self, table: DataTable, result: BatchRun) -> Any:
        """Return the texts of a run as a column, and warn if rows failed."""
        if (stopped := result.stop_error()) is not None:
            raise stopped
        if n_errors := result.progress.errors:
            first = next(iter(result.errors.values()))
            warn_user(
                f"{n_errors:,} of {counted(len(result), 'row')} failed and {'is' if n_errors == 1 else 'are'} missing. "
                f"{'The' if n_errors == 1 else 'The first'} error: {first} "
                f"For all of them: `run = ....aichat.run(...)`, then `run.errors`."
            )
        if result.introduction:
            chat.shared_chat().say(result.introduction)
        for remark in result.remarks():
            warn_user(remark)
        return table.with_texts(list(result.texts()))


class SeriesAccessor(_Accessor):
    """`Series.aichat`: model calls for a column of prompts."""

    @_with_keywords
    def complete(self, *template: Never, **options: Unpack[BatchKeywords]) -> Any:
        """Send every prompt of the column. Equal ones are sent once, missing ones not at all.

        A cell is a prompt or a list of messages (``{"role": ..., "content": ...}``). A reply to an earlier, equal
        request comes from the store and costs nothing.

        Args:
            *template: Not allowed: each cell is a prompt already.
            **options: `CallKeywords` and `RunKeywords`:
                {keywords}

        Returns:
            A column of dtype ``string`` with the same index and name; for polars one of its type ``String``. Rows that
            are missing or failed are ``<NA>``, or null (`last_run.errors` has the errors).

        Raises:
            BadInputError: An argument cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped, or no row could be answered; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        _refuse(template)
        table = self._table()
        table.check_results([REPLY])
        return self._column(table, self._run(table, self._rows(table), options))

    @_with_keywords
    def run(self, *template: Never, **options: Unpack[BatchKeywords]) -> BatchRun:
        """Do the same as `complete`, but return the whole run: replies, errors, usage, cost.

        Args:
            *template: Not allowed: each cell is a prompt already.
            **options: `CallKeywords` and `RunKeywords`:
                {keywords}

        Returns:
            The run. An error that stopped it is not raised: it is in `stopped_by`.
        """
        _refuse(template)
        table = self._table()
        return self._run(table, self._rows(table), options)

    @_with_keywords
    def extract(self, *template: Never, schema: Any, **options: Unpack[BatchKeywords]) -> Any:
        """Send every prompt of the column, and return typed columns.

        Args:
            *template: Not allowed: each cell is a prompt already.
            schema: The schema of every answer, as for `DataFrame.aichat.extract`.
            **options: `CallKeywords` and `RunKeywords`:
                {keywords}

        Returns:
            Typed columns, as from `DataFrame.aichat.extract`.

        Raises:
            BadInputError: The schema or an option cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        _refuse(template)
        table = self._table()
        return self._extract(table, self._rows(table), schema, options)

    @_with_keywords
    def estimate(self, *template: Never, **options: Unpack[BatchKeywords]) -> Estimate:
        """Count what `complete` would send: rows, unique and stored requests, tokens, cost. Sends nothing.

        Args:
            *template: Not allowed: each cell is a prompt already.
            **options: `CallKeywords` and `RunKeywords`:
                {keywords}
        """
        _refuse(template)
        return self._estimate(self._rows(self._table()), options)

    @with_embed_keywords
    def embed(self, *template: Never, **options: Unpack[EmbedKeywords]) -> Any:
        """Return a vector for every text of the column. Equal texts are sent once, missing ones not at all.

        Args:
            *template: Not allowed: each cell is a text already.
            **options: `EmbedKeywords` and `RunKeywords`:
                {keywords}

        Returns:
            A column of float32 arrays with the same index and name (of Arrow lists, if the texts are an Arrow column;
            for other libraries a column of their own lists). Rows that are missing or failed are None
            (`last_run.errors` has the errors).

        Raises:
            BadInputError: An argument cannot be used, or the model makes no embeddings; nothing was sent.
            BatchStoppedError: The run was stopped, or no row could be embedded; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        _refuse(template)
        table = self._table()
        return self._embed(table, self._rows(table), [0], options)

    def _rows(self, table: DataTable) -> Callable[[], Iterable[Row]]:
        """Return a function that reads the rows of the column."""
        return lambda: rows_of(table.cells(0), table.is_missing)


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
    def complete(self, template: str, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> Any:
        """Send one prompt for every row, made from its columns.

        Args:
            template: A column template, that is a prompt with columns in braces: ``"{user.name}: {price ($)}"``. Any
                name goes. JSON and quoted text in braces, and doubled braces, are text; what nearly names a column, or
                reads as a name, is an error.
            raw: Whether all braces are text; the prompt of every row is then the same.
            **options: `CallKeywords` and `RunKeywords`:
                {keywords}

        Returns:
            A column of dtype ``string`` with the same index; for polars one of its type ``String``, for a LazyFrame the
            collected DataFrame with the column ``reply``. Rows that failed or have a missing value are ``<NA>`` (null).

        Raises:
            PromptError: The column template names a column that does not exist; nothing was sent.
            BadInputError: Another argument cannot be used; nothing was sent.
            BatchStoppedError: The run was stopped, or no row could be answered; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        table = self._table()
        table.check_results([REPLY])
        return self._column(table, self._run(table, self._rows(table, template, raw), options))

    @_with_keywords
    def run(self, template: str, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> BatchRun:
        """Do the same as `complete`, but return the whole run: replies, errors, usage, cost.

        Args:
            template: A column template, as for `complete`.
            raw: Whether all braces are text.
            **options: `CallKeywords` and `RunKeywords`:
                {keywords}

        Returns:
            The run. An error that stopped it is not raised: it is in `stopped_by`.
        """
        table = self._table()
        return self._run(table, self._rows(table, template, raw), options)

    @_with_keywords
    def extract(self, template: str, *, schema: Any, raw: bool = False, **options: Unpack[BatchKeywords]) -> Any:
        """Send one prompt for every row, and return typed columns.

        Args:
            template: A column template, as for `complete`.
            raw: Whether all braces are text.
            schema: The schema of every answer: a pydantic model, a dataclass, a TypedDict, a NamedTuple, an enum,
                a JSON schema as a dict, or an annotation such as ``Literal["good", "bad"]``.
            **options: `CallKeywords` and `RunKeywords`:
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
        table = self._table()
        return self._extract(table, self._rows(table, template, raw), schema, options)

    @_with_keywords
    def estimate(self, template: str, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> Estimate:
        """Count what `complete` would send: rows, unique and stored requests, tokens, cost. Sends nothing.

        Args:
            template: A column template, as for `complete`.
            raw: Whether all braces are text.
            **options: `CallKeywords` and `RunKeywords`:
                {keywords}
        """
        return self._estimate(self._rows(self._table(), template, raw), options)

    @_with_keywords
    def preview(self, template: str, n: int = 5, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> Any:
        """Send the first rows only, and return prompts and replies side by side, with tokens and cost.

        Args:
            template: A column template, as for `complete`.
            raw: Whether all braces are text.
            n: Number of rows, >= 1.
            **options: `CallKeywords` and `RunKeywords`:
                {keywords}

        Returns:
            Prompt, reply, error, tokens, cost and seconds of each of these rows.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise BadInputError(f"n must be a number of rows, 1 or more, not {n!r}.")
        table = self._table(n)
        return self._preview(table, self._rows(table, template, raw), options)

    @with_embed_keywords
    def embed(self, template: str, *, raw: bool = False, **options: Unpack[EmbedKeywords]) -> Any:
        """Return a vector for every row, of a text that is made from its columns.

        Args:
            template: A column template, as for `complete`: ``"{title} {body}"``.
            raw: Whether all braces are text.
            **options: `EmbedKeywords` and `RunKeywords`:
                {keywords}

        Returns:
            A column of float32 arrays with the same index (of Arrow lists, if the columns are Arrow columns; for other
            libraries a column of their own lists). Rows that failed or have a missing value are None
            (`last_run.errors` has the errors).

        Raises:
            BadInputError: An argument cannot be used, or the model makes no embeddings; nothing was sent.
            BatchStoppedError: The run was stopped, or no row could be embedded; the finished rows are kept.
            ChatInterrupt: The user interrupted; the finished rows are kept.
        """
        table = self._table()
        positions = ColumnTemplate.parse(template, table.names, is_raw=raw).columns
        return self._embed(table, self._rows(table, template, raw), positions, options)

    def _rows(self, table: DataTable, template: str, is_raw: bool) -> Callable[[], Iterable[Row]]:
        """Return a function that fills the column template for every row."""
        parsed = ColumnTemplate.parse(template, table.names, is_raw=is_raw)
        return lambda: parsed.rows([table.cells(p) for p in parsed.columns], table.is_missing, len(table))


def accessor_of(data: Any) -> SeriesAccessor | FrameAccessor:
    """Return the accessor for a frame or a column of any library; frames that are a plan are collected now.

    Args:
        data: The frame or the column.

    Raises:
        BadInputError: It is neither.
    """
    table = table_of(data)
    return SeriesAccessor(table) if table.is_column else FrameAccessor(table)


def _native(data: Any) -> Any:
    """Return the object of the library, on which `last_run` is kept."""
    return data.native if isinstance(data, DataTable) else data


def _prompt(row: Row) -> str | None:
    """Return the prompt of a row as a column can hold it, if it has one."""
    return fit(row) if isinstance(row, str) else None
