"""The functions over tables of any library: `complete`, `run`, `extract`, `estimate`, `preview`."""

from __future__ import annotations

from typing import Any, Unpack

from ..batching.estimate import Estimate
from ..batching.keywords import BatchKeywords, RunKeywords
from ..batching.run import BatchRun
from ..chat.keywords import CallKeywords, document_keywords
from ..core.errors import BadInputError
from .accessors import FrameAccessor, SeriesAccessor, accessor_of

_with_keywords = document_keywords(CallKeywords, RunKeywords)


@_with_keywords
def complete(frame: Any, template: str | None = None, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> Any:
    """Send one prompt for every row of a table, made from its columns, or every prompt of a column.

    The table may be of pandas, polars, Arrow or DuckDB, or of another library that narwhals knows.

    Args:
        frame: The table; or a column of prompts.
        template: A column template, that is a prompt with columns in braces; none for a column.
        raw: Whether all braces are text.
        **options: `CallKeywords` and `RunKeywords`:
            {keywords}

    Returns:
        A column of the table's own library and text type, with its index where it has one. A table whose rows are
        computed for the call (a LazyFrame, a DuckDB relation) comes back with its rows, as a DataFrame or an Arrow
        table with the column ``reply``. Rows that failed or have a missing value are missing.

    Raises:
        PromptError: The column template names a column that does not exist; nothing was sent.
        BadInputError: Another argument cannot be used; nothing was sent.
        BatchStoppedError: The run was stopped, or no row could be answered; the finished rows are kept.
        ChatInterrupt: The user interrupted; the finished rows are kept.
    """
    accessor, arguments = _accessor(frame, template, raw)
    return accessor.complete(*arguments, **_keywords(raw, options))


@_with_keywords
def run(frame: Any, template: str | None = None, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> BatchRun:
    """Do the same as `complete`, but return the whole run: replies, errors, usage, cost.

    Args:
        frame: The table; or a column of prompts.
        template: A column template; none for a column.
        raw: Whether all braces are text.
        **options: `CallKeywords` and `RunKeywords`:
            {keywords}

    Returns:
        The run. An error that stopped it is not raised: it is in `stopped_by`.
    """
    accessor, arguments = _accessor(frame, template, raw)
    result: BatchRun = accessor.run(*arguments, **_keywords(raw, options))
    return result


@_with_keywords
def extract(
    frame: Any, template: str | None = None, *, schema: Any, raw: bool = False, **options: Unpack[BatchKeywords]
) -> Any:
    """Send one prompt for every row of a table, and return typed columns.

    Args:
        frame: The table; or a column of prompts.
        template: A column template; none for a column.
        schema: The schema of every answer, as for `DataFrame.aichat.extract`.
        raw: Whether all braces are text.
        **options: `CallKeywords` and `RunKeywords`:
            {keywords}

    Returns:
        A table of the same library with a typed column for each field; with the rows, if they are computed for the
        call.

    Raises:
        BadInputError: The column template, the schema or an option cannot be used; nothing was sent.
        BatchStoppedError: The run was stopped; the finished rows are kept.
        ChatInterrupt: The user interrupted; the finished rows are kept.
    """
    accessor, arguments = _accessor(frame, template, raw)
    return accessor.extract(*arguments, schema=schema, **_keywords(raw, options))


@_with_keywords
def estimate(
    frame: Any, template: str | None = None, *, raw: bool = False, **options: Unpack[BatchKeywords]
) -> Estimate:
    """Count what `complete` would send: rows, unique and stored requests, tokens, cost. Sends nothing.

    Args:
        frame: The table; or a column of prompts.
        template: A column template; none for a column.
        raw: Whether all braces are text.
        **options: `CallKeywords` and `RunKeywords`:
            {keywords}
    """
    accessor, arguments = _accessor(frame, template, raw)
    result: Estimate = accessor.estimate(*arguments, **_keywords(raw, options))
    return result


@_with_keywords
def preview(frame: Any, template: str, n: int = 5, *, raw: bool = False, **options: Unpack[BatchKeywords]) -> Any:
    """Send the first rows of a table only, and return prompts and replies side by side, with tokens and cost.

    Args:
        frame: The table.
        template: A column template.
        n: Number of rows, >= 1.
        raw: Whether all braces are text.
        **options: `CallKeywords` and `RunKeywords`:
            {keywords}

    Returns:
        Prompt, reply, error, tokens, cost and seconds of each of these rows, as a table of the same library.
    """
    return FrameAccessor(frame).preview(template, n, raw=raw, **options)


def _accessor(frame: Any, template: str | None, raw: bool) -> tuple[Any, tuple[str, ...]]:
    """Return the accessor for a table or a column, and the arguments that its methods take.

    Raises:
        BadInputError: A table has no column template, or a column has one.
    """
    accessor = accessor_of(frame)
    if isinstance(accessor, SeriesAccessor):
        if raw:
            raise BadInputError("raw=True is for a column template, and a column of prompts takes none.")
        return accessor, () if template is None else (template,)
    if template is None:
        raise BadInputError(
            'A table needs a column template, a prompt with columns in braces: complete(frame, "Sum up: {body}").'
        )
    return accessor, (template,)


def _keywords(raw: bool, options: BatchKeywords) -> dict[str, Any]:
    """Return the keywords for a method of an accessor."""
    return {**options, "raw": True} if raw else dict(options)
