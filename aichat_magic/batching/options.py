"""Options of a run, with their ranges, and the plan that is made from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ..chat.chat import Call, Chat
from ..chat.remarks import warn_of
from ..core.errors import AichatError, OptionError
from ..core.messages import Message, new_message
from ..core.options import CallOptions
from ..core.usage import Usage
from ..core.user_warnings import warn_user
from ..store.base import ReplyStore
from ..store.keys import RequestKeys
from .budget import Budget
from .leases import Limiter
from .limiter import RunLimiter
from .process_limits import ProcessLimits, shared_limits
from .progress import Progress

Row = str | tuple[Message, ...] | AichatError | None
"""One row of a run: a prompt, the messages of a conversation, None (a missing value), or the error it fails with."""

_MAX_CONCURRENCY = 1000
_MAX_AUTO_CONCURRENCY = 256
_ONE_TOKEN = Usage(input_tokens=1, output_tokens=1)
OUTAGE_PATIENCE_S = 600.0
LIMIT_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """The plan of one run: everything but its rows.

    Attributes:
        call: Provider, model, options and retry policy of every request; its messages are replaced by those of a row.
        system: System message before the prompt of each row; empty: none.
        limiter: Concurrency, pace and budget.
        store: Store for replies; None: they are neither looked up nor kept.
        is_fresh: Ask again even if the store has a reply, and replace it.
        outage_patience_s: Longest total time of network outages, in seconds, >= 0.
        limit_patience_s: Longest time in which the server admits no call, in seconds, >= 0.
    """

    call: Call
    system: str = ""
    limiter: Limiter
    store: ReplyStore | None = None
    is_fresh: bool = False
    outage_patience_s: float = OUTAGE_PATIENCE_S
    limit_patience_s: float = LIMIT_PATIENCE_S

    def keys(self) -> RequestKeys:
        """Return the function that makes the store keys of this run's requests."""
        endpoint, request = self.call.provider.endpoint, self.call.request
        # The whole address, not the host alone: one gateway may serve different models under different paths.
        return RequestKeys(
            provider=endpoint.provider, host=endpoint.base_url, model=request.model, options=request.options
        )

    def messages(self, row: str | tuple[Message, ...]) -> tuple[Message, ...]:
        """Return the messages to send for a row."""
        tail = (new_message("user", row),) if isinstance(row, str) else row
        return (Message("system", self.system), *tail) if self.system else tail


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """The options of a run; `BatchKeywords` describes each. This is the one place that checks their ranges."""

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
    limit_patience_s: float = LIMIT_PATIENCE_S

    def __post_init__(self) -> None:
        """Check the ranges.

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
        for name in ("outage_patience_s", "limit_patience_s"):
            patience_s = getattr(self, name)
            is_number = isinstance(patience_s, (int, float)) and not isinstance(patience_s, bool)
            if not (is_number and 0 <= patience_s < math.inf):
                raise OptionError(f"{name} must be a number of seconds, 0 or more, not {patience_s!r}.")
        if not callable(self.progress) and not isinstance(self.progress, bool):
            raise OptionError(f"progress must be True, False or a callable, not {self.progress!r}.")

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> tuple[BatchOptions, dict[str, Any]]:
        """Take the keywords of the run out of all keywords of a caller.

        Args:
            keywords: Values by name; None means: not given.

        Returns:
            The options, and the keywords that are left, which belong to the call.

        Raises:
            OptionError: A value is outside its range.
        """
        names = {f.name for f in fields(cls)}
        own = {name: value for name, value in keywords.items() if name in names and value is not None}
        return cls(**own), {name: value for name, value in keywords.items() if name not in names}

    def plan(
        self, chat: Chat, given: CallOptions, budget: Budget | None = None, limits: ProcessLimits | None = None
    ) -> BatchPlan:
        """Make the plan for these options; nothing is sent.

        Args:
            chat: The chat that will send the requests.
            given: Model, sampling options and so on of each call.
            budget: The budget of another run, to continue it; None: a new one.
            limits: What runs learn of servers, for all that share it; None: those of the process.

        Raises:
            BadInputError: An argument cannot be used.
            MissingKeyError: The provider needs a key and there is none.
        """
        settings = chat.settings
        # Any prompt will do: it is replaced by that of a row.
        call = chat.call((Message("user", "-"),), given, settings)
        warn_of(call.notes)
        if self.max_retries is not None:
            call = replace(call, policy=replace(call.policy, max_retries=self.max_retries))
        # Rows that find no capacity at the tier flex cost the normal price.
        costliest = call.without_flex() or call
        for each in (call, costliest):
            if self.max_cost_usd is not None and each.priced(_ONE_TOKEN).cost_usd is None:
                raise OptionError(
                    f"max_cost_usd cannot be used: the price of {each.priced_name} is not known. Set it under [prices] "
                    f"in the configuration file, or use max_total_tokens instead."
                )
        limit = chat.http.limit  # asked for its share for every call, and there is no fork in a run
        most = limit.max_per_host
        concurrency = self.concurrency
        if concurrency != "auto" and concurrency > most:
            warn_user(
                f"concurrency={concurrency} is more than this process can have: {most} connections to one host are "
                "used. All connections together may take a quarter of its limit of open files (`ulimit -n`)."
            )
            concurrency = most
        return BatchPlan(
            call=call,
            system=given.system or settings.system,
            limiter=RunLimiter(
                concurrency=concurrency,
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                budget=budget
                or Budget(
                    max_cost_usd=self.max_cost_usd,
                    max_total_tokens=self.max_total_tokens,
                    max_tokens=call.request.options.max_tokens,
                    priced=costliest.priced,
                ),
                home=(limits or shared_limits()).home(
                    call.provider.endpoint, call.request.model, max_concurrency=min(_MAX_AUTO_CONCURRENCY, most)
                ),
                share=lambda: limit.share,
            ),
            store=chat.store if self.store else None,
            is_fresh=self.fresh,
            outage_patience_s=self.outage_patience_s,
            limit_patience_s=self.limit_patience_s,
        )
