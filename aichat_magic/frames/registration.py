"""Registers the accessors with pandas and polars. What they do is loaded with the first use of one."""

from __future__ import annotations

import importlib
from typing import Any


class LateAccessor:
    """Stands for an accessor class, which is loaded when an accessor is made or the class is looked into."""

    def __init__(self, name: str) -> None:
        """Create a stand-in.

        Args:
            name: Name of the class in `accessors`.
        """
        self._name = name

    def __call__(self, data: Any) -> Any:
        """Return the accessor for a frame or a column."""
        return self._accessor()(data)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the class, such as a method with its documentation."""
        return getattr(self._accessor(), name)

    def _accessor(self) -> Any:
        return getattr(importlib.import_module(".accessors", __package__), self._name)


# Callables, where polars wants classes.
_SERIES: Any = LateAccessor("SeriesAccessor")
_FRAME: Any = LateAccessor("FrameAccessor")


def register_pandas() -> None:
    """Register the accessors with pandas; a second call does nothing."""
    import pandas as pd

    for owner, accessor, decorator in (
        (pd.Series, _SERIES, pd.api.extensions.register_series_accessor),
        (pd.DataFrame, _FRAME, pd.api.extensions.register_dataframe_accessor),
    ):
        if getattr(owner, "aichat", None) is not accessor:
            decorator("aichat")(accessor)


def register_polars() -> None:
    """Register the accessors with polars; a second call does nothing."""
    import polars as pl

    for owner, accessor, decorator in (
        (pl.Series, _SERIES, pl.api.register_series_namespace),
        (pl.DataFrame, _FRAME, pl.api.register_dataframe_namespace),
        (pl.LazyFrame, _FRAME, pl.api.register_lazyframe_namespace),
    ):
        if getattr(owner, "aichat", None) is not accessor:
            decorator("aichat")(accessor)
