"""Usage of a session: replies, tokens and cost by model, and the table that shows them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from ..core.usage import Usage
from ..text.numbers import money
from ..text.widgets import Table

# Longest bar of a share, in characters.
_BAR = 6


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Replies and usage of one model in this session."""

    replies: int
    usage: Usage


class UsageTotals:
    """Replies and usage by model."""

    def __init__(self) -> None:
        """Start at zero."""
        self._by_model: dict[str, ModelUsage] = {}
        self._counting = threading.Lock()

    def count(self, model: str, usage: Usage, replies: int = 1) -> None:
        """Add replies of a model."""
        with self._counting:  # cells may ask from threads
            before = self._by_model.get(model)
            if before is not None:
                replies, usage = before.replies + replies, before.usage + usage
            self._by_model[model] = ModelUsage(replies, usage)

    def by_model(self) -> dict[str, ModelUsage]:
        """Return a copy, sorted by model."""
        with self._counting:
            return dict(sorted(self._by_model.items()))

    def line(self) -> str:
        """Return the totals in a few words."""
        replies, total = 0, None
        for used in self.by_model().values():
            replies += used.replies
            total = used.usage if total is None else total + used.usage
        return f"{counted(replies, 'reply', 'replies')}, {_tokens(total)}"


def usage_table(period: str, rows: Iterable[tuple[str, str, int, Usage]]) -> Table:
    """Return a table of tokens and cost by model and conversation, with a bar for the share of the tokens.

    Args:
        period: ``"session"``, ``"day"``, ``"month"`` or ``"all"``.
        rows: Model, conversation, replies, usage.
    """
    merged: dict[tuple[str, str], tuple[int, Usage]] = {}
    for model, conversation, replies, usage in rows:
        before = merged.get((model, conversation))
        merged[model, conversation] = (replies, usage) if before is None else (before[0] + replies, before[1] + usage)
    totals = {key: (usage.input_tokens or 0) + (usage.output_tokens or 0) for key, (_, usage) in merged.items()}
    most = max(totals.values(), default=0)
    cells = tuple(
        (
            model,
            conversation,
            replies,
            usage.input_tokens,
            usage.output_tokens,
            # A column without any of them is not shown.
            usage.cached_tokens or None,
            usage.cache_write_tokens or None,
            usage.reasoning_tokens or None,
            money(usage.cost_usd),
            "█" * math.ceil(_BAR * totals[model, conversation] / most) if most else "",
        )
        for (model, conversation), (replies, usage) in merged.items()
    )
    columns = (
        "model", "conversation", "replies", "in", "out", "cached", "cache writes", "thinking", "cost", "share"
    )  # fmt: skip
    title = {"session": "Usage of this session", "all": "Usage, everything that is stored"}.get(
        period, f"Usage of a {period}"
    )
    return Table(f"{title}, in tokens", columns, cells, "" if cells else "Nothing has been asked yet.")


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: ``1 turn``, ``2 turns``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def _tokens(usage: Usage | None) -> str:
    if usage is None:
        return "0 tokens"
    details = f" ({usage.details})" if usage.details else ""
    return f"{usage.input_tokens or 0} + {usage.output_tokens or 0} tokens{details}, cost {money(usage.cost_usd)}"
