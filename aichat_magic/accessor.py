"""`Series.aichat`: a column of prompts becomes a column of replies."""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd

from .api import batch
from .errors import AichatError
from .messages import Reply


class SeriesChat:
    """What `Series.aichat` is: LLM calls on a column of prompts."""

    def __init__(self, series: pd.Series[Any]) -> None:
        """Keep the column."""
        self._series = series

    def complete(self, *, concurrency: int = 8, **options: Any) -> pd.Series[Any]:
        """Ask every prompt of the column; equal ones are sent once, missing ones not at all.

        Args:
            concurrency: Most requests in flight at once, >= 1.
            **options: As `aichat_magic.ask`: `model`, `system`, `temperature`, `max_tokens`, `timeout` and so on.

        Returns:
            A column of dtype ``string`` with the same index and name; a row whose prompt is missing or that failed is
            ``<NA>``.

        Raises:
            BadInputError: Something given cannot be used; nothing was sent.
            AichatError: Not one row could be answered.
        """
        prompts = [None if self._is_missing(value) else str(value) for value in self._series.array]
        outcomes = batch(prompts, concurrency=concurrency, **options)
        errors = [outcome for outcome in outcomes if isinstance(outcome, AichatError)]
        if errors and not any(isinstance(outcome, Reply) for outcome in outcomes):
            raise errors[0]
        if errors:
            warnings.warn(
                f"{len(errors)} of {len(outcomes)} rows failed; the first: {errors[0]}", UserWarning, stacklevel=2
            )
        texts = [outcome.text if isinstance(outcome, Reply) else pd.NA for outcome in outcomes]
        return pd.Series(texts, index=self._series.index, name=self._series.name, dtype="string")

    @staticmethod
    def _is_missing(value: Any) -> bool:
        return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def register() -> None:
    """Give pandas the accessor; again is harmless."""
    if getattr(pd.Series, "aichat", None) is not SeriesChat:
        pd.api.extensions.register_series_accessor("aichat")(SeriesChat)
