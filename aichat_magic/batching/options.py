"""What a run over rows asks, and how: its options, its plan, and what it would send."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ..chat.chat import Call, Chat
from ..core.errors import AichatError, OptionError
from ..core.messages import Message, estimate_tokens
from ..core.options import CallOptions
from ..core.usage import Usage
from ..store.base import ReplyStore
from ..store.keys import RequestKeys
from .budget import Budget
from .limiter import Limiter
from .progress import Progress

Row = str | tuple[Message, ...] | AichatError | None
"""What one row asks: a prompt, the messages of a conversation, or nothing (a missing value); or why it cannot ask."""

_MAX_CONCURRENCY = 1000
_MAX_AUTO = 256
OUTAGE_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What one run asks, and how.

    Attributes:
        call: Provider, model, options and retry policy of every request; its messages are replaced by those of a row.
        system: System message before the prompt of a row; empty: none.
        limits: How many at once, and how fast.
        budget: What the run may spend.
        store: Where replies are looked up and kept; None: nowhere.
        is_fresh: Ask again although the store has a reply, and replace it.
        outage_patience_s: Longest time that the server may be away, in seconds, >= 0.
    """

    call: Call
    system: str = ""
    limits: Limiter
    budget: Budget
    store: ReplyStore | None = None
    is_fresh: bool = False
    outage_patience_s: float = OUTAGE_PATIENCE_S

    def keys(self) -> RequestKeys:
        """Makes the keys of this run's requests."""
        endpoint, request = self.call.provider.endpoint, self.call.request
        # The whole address, not the host alone: one gateway may serve different models under different paths.
        place = endpoint.base_url
        return RequestKeys(provider=endpoint.provider, host=place, model=request.model, options=request.options)

    def messages(self, row: str | tuple[Message, ...]) -> tuple[Message, ...]:
        """The messages that a row sends."""
        tail = (Message("user", row),) if isinstance(row, str) else row
        return (Message("system", self.system), *tail) if self.system else tail


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What a caller says of a run, beside what each request is.

    Attributes:
        concurrency: Most requests at once, or ``"auto"``: as many as the server takes well.
        requests_per_minute: Most requests a minute; None: as the server says.
        tokens_per_minute: Most tokens a minute; None: as the server says.
        max_cost_usd: What the run may cost, in US dollars: what a call may take is reserved before it is sent.
        max_total_tokens: What the run may take, in tokens; likewise.
        fresh: Ask again although the store has a reply, and replace it.
        store: Whether replies are looked up and kept.
        progress: Whether a bar is drawn, or a callable that gets `Progress` values.
        max_retries: How often one request is sent again; None: as the settings say.
        outage_patience_s: How long a run waits for a server that has answered before and cannot be reached, in seconds.
    """

    concurrency: int | Literal["auto"] = "auto"
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_cost_usd: float | None = None
    max_total_tokens: int | None = None
    fresh: bool = False
    store: bool = True
    progress: bool | Callable[[Progress], None] = True
    max_retries: int | None = None
    outage_patience_s: float = OUTAGE_PATIENCE_S

    def __post_init__(self) -> None:
        """Check every range.

        Raises:
            OptionError: A value is outside its range.
        """
        is_whole = isinstance(self.concurrency, int) and not isinstance(self.concurrency, bool)
        if self.concurrency != "auto" and not (is_whole and 1 <= self.concurrency <= _MAX_CONCURRENCY):
            raise OptionError(
                f"concurrency must be 'auto' or a whole number from 1 to {_MAX_CONCURRENCY}, not {self.concurrency!r}."
            )
        for name in ("requests_per_minute", "tokens_per_minute", "max_cost_usd", "max_total_tokens"):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 < value < math.inf):
                raise OptionError(f"{name} must be a number above 0, not {value!r}.")
        retries = self.max_retries
        if retries is not None and (isinstance(retries, bool) or not isinstance(retries, int) or retries < 0):
            raise OptionError(f"max_retries must be a whole number, 0 or more, not {retries!r}.")
        patience_s = self.outage_patience_s
        is_number = isinstance(patience_s, (int, float)) and not isinstance(patience_s, bool)
        if not (is_number and 0 <= patience_s < math.inf):
            raise OptionError(f"outage_patience_s must be a number of seconds, 0 or more, not {patience_s!r}.")
        if not callable(self.progress) and not isinstance(self.progress, bool):
            raise OptionError(f"progress must be True, False or a callable, not {self.progress!r}.")

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> tuple[BatchOptions, dict[str, Any]]:
        """Take the keywords of a run out of all that a caller gave.

        Args:
            keywords: Keywords by name; None means: not given.

        Returns:
            The options, and the keywords that are left.

        Raises:
            OptionError: A value outside its range.
        """
        names = {f.name for f in fields(cls)}
        own = {name: value for name, value in keywords.items() if name in names and value is not None}
        return cls(**own), {name: value for name, value in keywords.items() if name not in names}

    def plan(self, chat: Chat, given: CallOptions, budget: Budget | None = None) -> BatchPlan:
        """The plan for these options; nothing is sent.

        Args:
            chat: Who will ask.
            given: Model, sampling options and so on.
            budget: That of another run, which this one goes on with; None: one of its own.

        Raises:
            BadInputError: Something given cannot be used.
            MissingKeyError: No key for the provider.
        """
        settings = chat.settings
        # Any prompt will do: the messages are those of a row.
        call = chat.call((Message("user", "-"),), given, settings)
        if self.max_retries is not None:
            call = replace(call, policy=replace(call.policy, max_retries=self.max_retries))
        is_priced = call.priced(Usage(input_tokens=1, output_tokens=1)).cost_usd is not None
        if self.max_cost_usd is not None and not is_priced:
            raise OptionError(
                f"max_cost_usd cannot be kept: the price of {call.model} is not known. Set one in [prices] of the "
                f"configuration file, or limit max_total_tokens."
            )
        most = chat.http.limit.max_per_host
        concurrency = self.concurrency
        if concurrency != "auto" and concurrency > most:
            warnings.warn(
                f"concurrency={concurrency} is more than this process can have: {most} connections to one host are "
                "used. Its limit of open files (`ulimit -n`) is four times what all its connections may take.",
                stacklevel=2,
            )
            concurrency = most
        return BatchPlan(
            call=call,
            system=given.system or settings.system,
            limits=Limiter(
                concurrency=concurrency,
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                max_concurrency=min(_MAX_AUTO, most) if concurrency == "auto" else concurrency,
                share=lambda: chat.http.limit.share,
            ),
            budget=budget
            or Budget(
                max_cost_usd=self.max_cost_usd,
                max_total_tokens=self.max_total_tokens,
                max_tokens=call.request.options.max_tokens,
                priced=call.priced,
            ),
            store=chat.store if self.store else None,
            is_fresh=self.fresh,
            outage_patience_s=self.outage_patience_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run would send.

    Attributes:
        rows: Rows in all.
        missing: Rows with nothing to ask.
        unique: Different requests.
        stored: Those of them that the store answers.
        input_tokens: About how many tokens the others send, as `estimate_tokens` counts.
        cost_usd: What these tokens cost, without the replies; None where the price is not known.
    """

    rows: int
    missing: int
    unique: int
    stored: int
    input_tokens: int
    cost_usd: float | None

    def __str__(self) -> str:
        """One line."""
        cost = "unknown" if self.cost_usd is None else f"${self.cost_usd:.4f} and that of the replies"
        return (
            f"{self.rows:,} rows, {self.missing:,} missing, {self.unique:,} unique, {self.stored:,} stored already: "
            f"{self.unique - self.stored:,} requests with about {self.input_tokens:,} tokens, cost {cost}. "
            f"Nothing was sent."
        )

    __repr__ = __str__


async def estimate(plan: BatchPlan, rows: Iterable[Row]) -> Estimate:
    """Count what a run would send. Sends nothing.

    Args:
        plan: What would be asked.
        rows: The rows.
    """
    keys = plan.keys()
    n_rows = n_missing = 0
    tokens: dict[bytes, int] = {}
    for row in rows:
        n_rows += 1
        if row is None:
            n_missing += 1
        if row is None or isinstance(row, AichatError):
            continue
        messages = plan.messages(row)
        tokens.setdefault(keys.key(messages), estimate_tokens(messages))
    stored: Iterable[bytes] = ()
    if plan.store is not None and not plan.is_fresh:
        stored = await plan.store.get(list(tokens))
    n_unique, n_stored = len(tokens), 0
    for key in stored:
        tokens.pop(key)
        n_stored += 1
    n_tokens = sum(tokens.values())
    return Estimate(
        rows=n_rows,
        missing=n_missing,
        unique=n_unique,
        stored=n_stored,
        input_tokens=n_tokens,
        cost_usd=plan.call.priced(Usage(input_tokens=n_tokens, output_tokens=0)).cost_usd,
    )
