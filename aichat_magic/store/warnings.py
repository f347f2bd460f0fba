"""Warnings that arise in a background thread and are given in a thread of the caller."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path

from ..core.user_warnings import warn_user

_log = logging.getLogger(__name__)


class OnceWarnings:
    """Warnings kept until a caller comes by: in a background thread they would be lost, or raised at nobody."""

    def __init__(self, subject: str = "Replies", path: Path | None = None) -> None:
        """Begin with none.

        Args:
            subject: What is in the store, as the beginning of a sentence.
            path: The file that they are about; None: memory.
        """
        self._subject = subject
        self._path = path
        self._waiting: deque[str] = deque()
        self._kinds: set[str] = set()

    def add(self, text: str) -> None:
        """Keep a warning."""
        self._waiting.append(text)

    def once(self, kind: str, text: str) -> None:
        """Keep a warning, unless one of this kind was kept before.

        Args:
            kind: Any word.
            text: The warning.
        """
        if kind not in self._kinds:
            self._kinds.add(kind)
            self.add(text)

    def memory_only(self, kind: str, reason: str) -> None:
        """Keep the warning that the file cannot be used, once for each kind: the trouble concerns every row.

        Args:
            kind: Any word.
            reason: Why, as the end of a sentence.
        """
        self.once(
            kind, f"{self._subject} are kept in memory only, because the file {self._path} cannot be used: {reason}."
        )

    def emit(self) -> None:
        """Give the warnings that were kept. Never raises: a reply must not be lost to ``-W error``."""
        while self._waiting:
            try:
                text = self._waiting.popleft()
            except IndexError:
                return  # another thread was quicker
            try:
                warn_user(text)
            except UserWarning:
                _log.warning(text)
