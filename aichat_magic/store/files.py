"""The files of a user: where each is, and whether there is to be one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFile:
    """A file of the user, and the environment variable that moves it.

    Attributes:
        subject: What is in it, as the beginning of a sentence.
        variable: Environment variable with its path; ``none`` or ``memory`` there means no file.
        name: Its name in the user's data directory.
    """

    subject: str
    variable: str
    name: str

    def path(self, environ: Mapping[str, str], *, is_quiet: bool = False) -> Path | None:
        """Return the absolute path. Nothing is created.

        Args:
            environ: The environment.
            is_quiet: Whether to give no warning when the user has no home directory.

        Returns:
            The path; None where there is to be no file: the environment says so, or the user has no home directory.
        """
        named = environ.get(self.variable, "")
        if named.lower() in ("none", "memory"):
            return None
        if named:
            return Path(os.path.abspath(os.path.expanduser(named)))
        import platformdirs  # not needed where the variable is set

        path = platformdirs.user_data_path("aichat_magic", appauthor=False) / self.name
        if path.is_absolute():
            return path
        if not is_quiet:
            warnings.warn(
                f"{self.subject} are kept in memory only, because this user has no home directory. "
                f"Set {self.variable} to the path of a file to keep them.",
                UserWarning,
                stacklevel=3,
            )
        return None


REPLIES_FILE: Final = StoreFile(subject="Replies", variable="AICHAT_STORE", name="replies.sqlite3")
CONVERSATIONS_FILE: Final = StoreFile(
    subject="Conversations", variable="AICHAT_CONVERSATIONS", name="conversations.sqlite3"
)
