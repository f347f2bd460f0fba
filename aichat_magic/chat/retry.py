"""Retries: when to try again, and when to stop. Pure arithmetic; callers bring clock, sleep and random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..core.errors import (
    AichatError,
    BlankReplyError,
    DeadlineError,
    ModelLoadingError,
    NotRunningError,
    OptionError,
    ProviderError,
)

# Longest wait between two questions whether a model is loaded, in seconds: of our own, and where the server says how
# long it takes.
_MAX_LOADING_WAIT_S = 15.0
_MAX_ESTIMATE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The limits of the retries of one request.

    Attributes:
        max_retries: Retries after the first attempt, >= 0.
        base_s: Upper bound of the first wait, in seconds, > 0.
        cap_s: Upper bound of a wait that the server did not ask for, in seconds, > 0.
        retry_after_cap_s: Longest wait that a server may ask for, in seconds, > 0; if it asks for more, there is no
            retry.
        max_deadline_retries: Retries after a timeout, >= 0: each may take the whole time again.
        max_not_running_retries: Retries if no server listens on this machine, >= 0: a user who has to start one needs
            the error soon.
        loading_patience_s: How long to wait in all for a server that is loading the model, in seconds, > 0. It ends by
            itself, so it is not counted by tries; without any retries it is not waited for either.
        max_blank_retries: Retries after a reply without text and without a reason, >= 0: each is paid for.
    """

    max_retries: int = 4
    base_s: float = 0.5
    cap_s: float = 30.0
    retry_after_cap_s: float = 120.0
    max_deadline_retries: int = 2
    max_not_running_retries: int = 1
    max_blank_retries: int = 1
    loading_patience_s: float = 120.0

    def __post_init__(self) -> None:
        """Check every range.

        Raises:
            OptionError: A count is below 0, or a time is not a positive number.
        """
        for name in ("max_retries", "max_deadline_retries", "max_not_running_retries", "max_blank_retries"):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise OptionError(f"{name} must be a whole number, 0 or more, not {count!r}.")
        for name in ("base_s", "cap_s", "retry_after_cap_s", "loading_patience_s"):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
                raise OptionError(f"{name} must be a number of seconds above 0, not {seconds!r}.")


def backoff_s(attempt: int, *, base_s: float, cap_s: float, random: Callable[[], float]) -> float:
    """Return the seconds to wait before the next attempt, with full jitter.

    Args:
        attempt: Number of the attempt that failed, from 1.
        base_s: Upper bound of the first wait, in seconds, > 0.
        cap_s: Upper bound of any wait, in seconds.
        random: Source of uniform numbers in [0, 1).

    Returns:
        A wait in [0, min(cap_s, base_s * 2 ** (attempt - 1))].

    Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
    """
    # Beyond 2 ** 60 the bound is the cap anyway, and a float would overflow.
    return random() * min(cap_s, base_s * 2.0 ** min(attempt - 1, 60))


def next_wait_s(error: AichatError, attempt: int, policy: RetryPolicy, random: Callable[[], float]) -> float | None:
    """Return the seconds to wait before the request is sent again, or None if it is not sent again.

    Args:
        error: The error of the last attempt.
        attempt: Its number, from 1.
        policy: The limits of the retries.
        random: Source of uniform numbers in [0, 1).

    Returns:
        The wait, >= 0, and at least as long as the server asked for; None if trying again cannot help, was done often
        enough, or would take longer than the policy allows (`stop_reason` says which).
    """
    if stop_reason(error, attempt, policy) is not None:
        return None
    if isinstance(error, ModelLoadingError):
        return _loading_wait_s(error, attempt, policy)
    wait_s = backoff_s(attempt, base_s=policy.base_s, cap_s=policy.cap_s, random=random)
    asked_s = _requested_wait_s(error)
    # The jitter is added: otherwise all requests refused at the same moment would be sent again at the same moment.
    return wait_s if asked_s is None else asked_s + min(wait_s, policy.base_s)


def stop_reason(error: AichatError, attempt: int, policy: RetryPolicy) -> str | None:
    """Return the reason why there is no further attempt.

    Args:
        error: The error of the last attempt.
        attempt: Its number, from 1.
        policy: The limits of the retries.

    Returns:
        A sentence for the user; empty if the error needs none; None if there is a further attempt.
    """
    if not error.is_retryable:
        return ""
    if isinstance(error, ModelLoadingError) and policy.max_retries:
        is_over = _loading_wait_s(error, attempt, policy) <= 0
        return f"It was still loading after {policy.loading_patience_s:.0f} s." if is_over else None
    asked_s = _requested_wait_s(error)
    if asked_s is not None and asked_s > policy.retry_after_cap_s:
        return (
            f"The server asks for a wait of {asked_s:.0f} s, which is longer than the limit of "
            f"{policy.retry_after_cap_s:.0f} s."
        )
    most = policy.max_retries
    if isinstance(error, DeadlineError):
        most = min(most, policy.max_deadline_retries)
    elif isinstance(error, NotRunningError):
        most = min(most, policy.max_not_running_retries)
    elif isinstance(error, BlankReplyError):
        most = min(most, policy.max_blank_retries)
    if attempt > most:
        return f"It was tried {attempt} times." if attempt > 1 else ""
    return None


def give_up(error: AichatError, attempt: int, policy: RetryPolicy) -> AichatError:
    """Add to the error of the last attempt why there is no further one.

    Args:
        error: The error of the last attempt.
        attempt: Its number, from 1.
        policy: The limits of the retries.

    Returns:
        `error` itself.
    """
    if reason := stop_reason(error, attempt, policy):
        error.args = (f"{error} {reason}", *error.args[1:])
    return error


def _loading_wait_s(error: ModelLoadingError, attempt: int, policy: RetryPolicy) -> float:
    """Return the wait before a server that is loading the model is asked again; 0 when the patience is over.

    The waits double from 1 s up to 15 s, or are as long as the server estimates, up to 30 s: it may be ready earlier.
    They have no jitter: a server that loads a model is there for few.
    """
    least_s = min(error.retry_after_s or 0.0, _MAX_ESTIMATE_S)
    left_s, wait_s = policy.loading_patience_s, 0.0
    for tried in range(attempt):
        left_s -= wait_s
        if left_s <= 0:
            return 0.0
        wait_s = min(max(min(2.0**tried, _MAX_LOADING_WAIT_S), least_s), left_s)
    return wait_s


def _requested_wait_s(error: AichatError) -> float | None:
    """Return the wait that the server asked for, in seconds, or None."""
    return error.retry_after_s if isinstance(error, ProviderError) else None


class RetryBudget:
    """The retries that all requests of one run may make together.

    With a server that fails now and then, a request costs a retry and no more; with one that always fails, a run would
    send every request `max_retries` times again. The budget tells the two apart: it begins with a reserve and grows
    with every request that succeeds.
    """

    def __init__(self, *, reserve: int = 20, ratio: float = 0.2) -> None:
        """Create the budget of a run.

        Args:
            reserve: Retries at the beginning.
            ratio: Retries that each success adds.
        """
        self._left = float(reserve)
        self._ratio = ratio

    def earn(self) -> None:
        """Add the share of a request that has succeeded."""
        self._left += self._ratio

    def spend(self) -> bool:
        """Take one retry; return False if there is none left."""
        # Sums of a ratio such as 0.1 stay slightly below the whole number.
        if self._left < 1 - 1e-9:
            return False
        self._left -= 1
        return True
