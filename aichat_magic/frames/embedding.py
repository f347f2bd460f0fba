"""Runs over embeddings with the keywords of the user."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ..batching.embedding import EmbeddingRun, embed_rows
from ..batching.keywords import RunKeywords
from ..batching.options import BatchOptions, Row
from ..chat.chat import shared_chat
from ..chat.keywords import CallKeywords, document_keywords
from ..core.errors import UnknownNameError
from ..core.options import CallOptions
from ..core.user_warnings import warn_user
from ..text.words import did_you_mean

_SHOWN_ROWS = 10


class EmbedKeywords(RunKeywords, total=False):
    """The keywords of embeddings. Those of the run are described in `RunKeywords`.

    Keys:
        model: ``provider/model``, such as ``"openai/text-embedding-3-small"``; default: ``"local/wordllama"``, which
            runs in this process (extra `embed`).
        dimensions: Length of each vector, for models that have several; default: the model's own.
        base_url: Address of another server that speaks the OpenAI dialect.
        options: The vendor's own options, a dict such as ``{"input_type": "query"}``, merged into the request last.
        timeout: Longest time of one request, in seconds.
        proxy: Proxy URL: http, https, socks5 or socks5h.
    """

    model: str | None
    dimensions: int | None
    base_url: str | None
    options: Mapping[str, Any] | None
    timeout: float | None
    proxy: str | None


with_embed_keywords = document_keywords(EmbedKeywords, RunKeywords)


def embedding_run(
    rows: Iterable[Row], keywords: Mapping[str, Any], keep: Callable[[EmbeddingRun], None] = lambda run: None
) -> EmbeddingRun:
    """Embed rows with the keywords of the user, and warn of rows that failed and of what the model did otherwise.

    Args:
        rows: The rows.
        keywords: `EmbedKeywords`.
        keep: Called with the run before it begins.

    Raises:
        BadInputError: An argument cannot be used; nothing was sent.
        BatchStoppedError: The run was stopped, or no row could be embedded.
        ChatInterrupt: The user interrupted; the finished rows are kept.
    """
    options, rest = BatchOptions.from_keywords(keywords)
    for name in rest:
        if name not in (*EmbedKeywords.__annotations__, *CallKeywords.__annotations__):
            raise UnknownNameError(f"There is no option {name!r}.{did_you_mean(name, EmbedKeywords.__annotations__)}")
    dimensions = rest.pop("dimensions", None)
    result = embed_rows(
        shared_chat(),
        rows,
        given=CallOptions.from_keywords(rest),
        options=options,
        dimensions=dimensions,
        keep=keep,
    )
    if (stopped := result.stop_error()) is not None:
        raise stopped
    if errors := result.errors:
        warn_user(
            f"{len(errors):,} of {len(result):,} rows failed and are missing: {_positions(errors)}. The first error: "
            f"{next(iter(errors.values()))} For all of them, keep the column or table in a variable and look at its "
            f"`.aichat.last_run.errors`."
        )
    for remark in result.remarks():
        warn_user(remark)
    return result


def _positions(rows: Collection[int]) -> str:
    """Return the first positions of rows in words."""
    first = ", ".join(str(row) for row in list(rows)[:_SHOWN_ROWS])
    return f"row{'s' if len(rows) > 1 else ''} {first}{' and others' if len(rows) > _SHOWN_ROWS else ''}"
