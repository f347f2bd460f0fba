"""The keywords of a run, with their types: documented here, and shown everywhere from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypedDict

from ..chat.keywords import CallKeywords

if TYPE_CHECKING:
    from .progress import Progress


class RunKeywords(TypedDict, total=False):
    """The keywords of a run over rows, whatever its requests ask for. What is left out or None has its default.

    Keys:
        concurrency: Most requests in flight, 1 to 1,000, or ``"auto"`` (the default), which adapts to the server.
        requests_per_minute: Most requests a minute, above 0; default: what the server's headers allow.
        tokens_per_minute: Most tokens a minute, above 0; default: what the server's headers allow.
        max_cost_usd: Budget of the run in US dollars, above 0. Before a call is sent, its upper bound is reserved: the
            prompt and `max_tokens` or, if that is not set, the longest reply so far plus 25 %. The run starts with two
            calls. Default: no limit.
        max_total_tokens: Budget of the run in tokens, input and output together, above 0; reserved in the same way.
            Default: no limit.
        fresh: True: ask again even if the store has a reply, and replace it; default: False.
        store: False: neither look up replies in the store nor keep them; default: True.
        progress: True (the default) shows a progress bar, False shows nothing; or a callable that gets `Progress`
            values.
        max_retries: How often a failed request is sent again, 0 or more; default: as in the settings.
        outage_patience_s: How long a run waits when a server that has answered before can no longer be reached, in
            seconds, 0 or more; default: 600. Meanwhile a single call probes the server now and then, and no row is
            lost.
        limit_patience_s: How long a run waits while the server refuses every call because of its limit, in seconds, 0
            or more; default: 600. Meanwhile the waits that the server asks for are kept, or a single call tries after
            longer and longer pauses, and no row is lost.
    """

    concurrency: int | Literal["auto"]
    requests_per_minute: float | None
    tokens_per_minute: float | None
    max_cost_usd: float | None
    max_total_tokens: int | None
    fresh: bool
    store: bool
    progress: bool | Callable[[Progress], None]
    max_retries: int | None
    outage_patience_s: float
    limit_patience_s: float


class BatchKeywords(CallKeywords, RunKeywords, total=False):
    """The keywords of a run over rows: those of each call (`CallKeywords`), and those of the run (`RunKeywords`)."""
