"""The LLM cell for people who work with data: `%load_ext aichat_magic`, then `%%aichat`."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
