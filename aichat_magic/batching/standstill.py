"""Servers that refuse calls: whether it is their limit or a fault, and when to try again. Pure arithmetic."""

from __future__ import annotations

from typing import ClassVar

# Calls were sent together if no more lies between them, in seconds.
TOGETHER_S = 0.001


class LimitCheck:
    """Counts of the calls that were sent after a refused one, to tell a limit from an occasional fault.

    Attributes:
        since: When the first of them was sent.
        answers: Calls that have ended.
        refused: Those of them that were refused.
        retry_at: When the server wants calls again.
    """

    def __init__(self, sent_at: float, now: float) -> None:
        """Begin with a call that was refused.

        Args:
            sent_at: When it was sent, in seconds of the clock.
            now: The current time.
        """
        self.since = sent_at - TOGETHER_S
        self.answers = 0
        self.refused = 0
        self.retry_at = now

    def is_settled(self, enough: int) -> bool:
        """Tell whether there are enough answers to decide."""
        return self.answers >= enough or (enough <= 10 and self.is_limit())

    def is_limit(self, *, is_over: bool = False) -> bool:
        """Tell whether most were refused. `is_over`: no more answers will come, so fewer are enough."""
        answers, refused = self.answers, self.refused
        if is_over and refused >= 4 and refused >= 0.3 * answers:
            return True
        return (answers >= 4 and refused >= 0.8 * answers) or (answers >= 10 and refused >= 0.5 * answers)


class Standstill:
    """A time in which a server admits nothing: all calls wait, and one at a time probes.

    Attributes:
        reason: ``"limit"``, or ``"loading"``: the server is loading the model.
        began_at: When it began.
    """

    _FIRST_PAUSE_S = 1.0
    _MAX_PAUSE_S: ClassVar[dict[str, float]] = {"limit": 60.0, "loading": 10.0}

    def __init__(self, reason: str, now: float) -> None:
        """Begin a standstill."""
        self.reason = reason
        self.began_at = now
        self._pause_s = self._FIRST_PAUSE_S / 2

    def next_pause_s(self, asked_s: float | None) -> float:
        """Return the seconds until the next probe: as the server asks, or twice as many as the last time."""
        if asked_s is not None:
            return asked_s
        self._pause_s = min(2 * self._pause_s, self._MAX_PAUSE_S[self.reason])
        return self._pause_s
