"""The rate limits of a server, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """The rate limits of a server, as it sent them; None where it did not.

    Attributes:
        limit_requests: Requests allowed in one window, or at once when none was made before.
        remaining_requests: Requests that are left.
        reset_requests_s: Seconds until all requests are available again.
        limit_tokens: The same for tokens.
        remaining_tokens: Tokens that are left.
        reset_tokens_s: Seconds until all tokens are available again.
    """

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None
