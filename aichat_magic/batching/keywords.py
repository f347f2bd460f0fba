"""The keywords of a run, with their types: documented here, and shown everywhere from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .progress import Progress
from ..chat.keywords import CallKeywords


class BatchKeywords(CallKeywords, total=False):
    """What a run over rows is, beside its prompts: that of each request, and of all together.

    Keys:
        concurrency: Most requests at once, or ``"auto"``: as many as the server takes well.
        requests_per_minute: Most requests a minute; None: as the server says.
        tokens_per_minute: Most tokens a minute; None: as the server says.
        max_cost_usd: What the run may cost, in US dollars. What a call may take is reserved before it is sent: its
            prompt and `max_tokens`, or, where that is not given, the longest reply so far and a quarter more. The run
            begins with two calls.
        max_total_tokens: What the run may take, in tokens, input and output; likewise.
        fresh: Ask again although the store has a reply, and replace it.
        store: Whether replies are looked up and kept.
        progress: Whether a bar is drawn, or a callable that gets `Progress` values.
        max_retries: How often one request is sent again; None: as the settings say.
        outage_patience_s: How long a run waits when a server that has answered before cannot be reached any more, in
            seconds, 0 or more; default: 600. Meanwhile one call tries now and then, and no row is lost.
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
