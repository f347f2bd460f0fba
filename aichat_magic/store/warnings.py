"""Warnings that arise in a thread of ours and are given in one of the caller's."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from pathlib import Path

_log = logging.getLogger(__name__)


class OnceWarnings:
    """Keeps warnings until a caller comes by. In the writer's thread they would be lost, or raised at nobody."""

    def __init__(self, path: Path | None = None) -> None:
        """Begin with none.

        Args:
            path: The file that they are about; None: memory.
        """
        self._path = path
        self._waiting: deque[str] = deque()
        self._said: set[str] = set()

    def add(self, text: str) -> None:
        """Keep a warning."""
        self._waiting.append(text)

    def trouble(self, kind: str, reason: str) -> None:
        """Keep the warning that the file cannot be used, once for each kind: trouble concerns every row.

        Args:
            kind: Any word.
            reason: Why, as the end of a sentence.
        """
        self.once(kind, f"Replies are kept in memory only, because the store {self._path} cannot be used: {reason}.")

    def once(self, kind: str, text: str) -> None:
        """Keep a warning, unless one of this kind was kept before.

        Args:
            kind: Any word.
            text: The warning.
        """
        if kind not in self._said:
            self._said.add(kind)
            self.add(text)

    def give(self) -> None:
        """Warn of what has been kept. Never raises: a reply must not be lost to ``-W error``."""
        while self._waiting:
            try:
                text = self._waiting.popleft()
            except IndexError:
                return  # another thread was quicker
            try:
                warnings.warn(text, UserWarning, stacklevel=3)
            except UserWarning:
                _log.warning(text)
