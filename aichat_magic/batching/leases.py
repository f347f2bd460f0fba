"""The limiter's protocol: a lease before each call, a report after it. It is the same wherever the limit has its home.

A lease reserves one request, its tokens and, where there is a budget, its money. The homes:

- **one run**: the user's own `concurrency`, `requests_per_minute`, `tokens_per_minute` and budget
  (`limiter.RunLimiter`);
- **one process**: what its runs have learned of a server, shared by key, host and model (`server_limit.ServerLimit`,
  kept in `process_limits.ProcessLimits`). `RunLimiter` asks there, too;
- **a scheduler or a database**, for several processes. Such a home implements `Limiter` and gets a `ServerLimit` and a
  `Budget` to do the arithmetic, which knows no event loop and takes its time from a clock.

A lease that is never reported must not be lost to the others: a home drops the leases of a run that has ended
(`close`), and a home beyond the process also those that are older than any call may be (`Lease.sent_at`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..core.errors import (
    AichatError,
    ConnectionFailedError,
    DeadlineError,
    IncompleteReplyError,
    ModelLoadingError,
    RateLimitError,
    TooManyOpenFilesError,
)
from ..core.messages import RateLimits, Reply
from ..core.usage import Usage
from .budget import Budget

# A file descriptor may be free again so soon, in seconds.
_DESCRIPTOR_WAIT_S = 1.0
OutcomeKind = Literal["ok", "throttled", "loading", "timeout", "lost", "error"]


@dataclass(slots=True, eq=False)
class Lease:
    """What is reserved for one call.

    Attributes:
        sent_at: Time at which it was granted, on the clock of its home, in seconds.
        tokens: Tokens that are reserved for the pace, input and output together.
        rank: Calls in flight at that time, with this one, as far as they share a window; 0: it has no part in it.
        holder: Whoever holds it, as its home knows them.
        reservation: What is reserved of the run's budget; None: there is no budget.
    """

    sent_at: float
    tokens: float
    rank: int
    holder: Any
    reservation: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one call, as the limiter needs it.

    Attributes:
        latency_s: Seconds from sending to the end.
        kind: ``"ok"``; ``"throttled"`` (429, 503, 529, or no file descriptor was left for it); ``"loading"``: the
            server is loading the model; ``"timeout"``; ``"lost"``: it says nothing about the server, because its
            connection failed or it was not sent; ``"error"`` for everything else.
        tokens: Tokens it used, input and output together; None: the server did not say.
        retry_after_s: Wait that the server asked for, in seconds.
        rate_limits: Limits from the headers.
        usage: What is charged to the budget, with the cost; None: there was no reply.
    """

    latency_s: float
    kind: OutcomeKind = "ok"
    tokens: int | None = None
    retry_after_s: float | None = None
    rate_limits: RateLimits | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the failure of a call means, as the limit sees it.

    Attributes:
        is_excused: Whether it was the limit's fault and not the call's, so that it does not count: too many calls were
            in flight for the server.
        stuck_s: Seconds since calls are refused without one being admitted; 0: the last one was admitted.
    """

    is_excused: bool = False
    stuck_s: float = 0.0


NO_VERDICT = Verdict()
UNSENT = Outcome(latency_s=0.0, kind="lost")


class Limiter(Protocol):
    """The limit of one run, as the run sees it, wherever its home is.

    Attributes:
        concurrency: Calls that may be in flight now, for the progress.
        max_concurrency: The most that it can become.
        budget: What the run may use and has used.
    """

    @property
    def budget(self) -> Budget: ...  # noqa: D102

    @property
    def concurrency(self) -> int: ...  # noqa: D102
    @property
    def max_concurrency(self) -> int: ...  # noqa: D102

    @property
    def workers_wanted(self) -> int:
        """Return the number of calls that can be under way now."""

    @property
    def counts_tokens(self) -> bool:
        """Tell whether the estimate of a call matters; if not, 0 will do."""

    @property
    def pause(self) -> tuple[float, str]:
        """Return the seconds until calls start again, and why they wait: ``"limit"``, ``"loading"`` or empty."""

    async def acquire(self, estimate: int = 0) -> Lease | None:
        """Wait until a call may start.

        Args:
            estimate: Its input tokens, as counted by `estimate_tokens`; 0: like the calls before it.

        Returns:
            The lease, to be passed to `report`; None: the budget does not cover the call.
        """

    def report(self, lease: Lease, outcome: Outcome) -> Verdict:
        """Return a lease when its call has ended, or was not sent."""

    def close(self) -> None:
        """Drop the leases that are left: the run is over."""


def outcome_of(result: Reply | AichatError, latency_s: float) -> Outcome:
    """Convert the result of an attempt.

    Args:
        result: The reply, or the error.
        latency_s: Seconds from sending to the end.
    """
    if isinstance(result, Reply):
        used = result.usage
        return Outcome(
            latency_s=latency_s,
            tokens=(used.input_tokens or 0) + (used.output_tokens or 0) or None,
            rate_limits=result.rate_limits,
        )
    return Outcome(
        latency_s=latency_s,
        kind=_kind_of(result),
        retry_after_s=_DESCRIPTOR_WAIT_S
        if isinstance(result, TooManyOpenFilesError)
        else getattr(result, "retry_after_s", None),
        rate_limits=getattr(result, "rate_limits", None),
    )


def _kind_of(error: AichatError) -> OutcomeKind:
    if isinstance(error, ModelLoadingError):
        return "loading"
    if isinstance(error, (RateLimitError, TooManyOpenFilesError)) or getattr(error, "status", None) in (503, 529):
        return "throttled"
    if isinstance(error, DeadlineError):
        return "timeout"
    return "lost" if isinstance(error, (ConnectionFailedError, IncompleteReplyError)) else "error"
