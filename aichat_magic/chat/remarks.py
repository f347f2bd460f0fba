"""Remarks of replies, told as warnings where nothing shows the reply: in scripts."""

from __future__ import annotations

from collections.abc import Iterable

from ..store.warnings import OnceWarnings


def warn_of(remarks: Iterable[str]) -> None:
    """Give each remark as a warning, which Python shows once. Never raises, because a reply must not be lost to it."""
    told = OnceWarnings()
    for line in remarks:
        told.add(line)
    told.emit()
