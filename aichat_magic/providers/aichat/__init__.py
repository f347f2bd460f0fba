"""The historical provider of https://chat-gpt.org, with everything that only it needs.

`provider` has the class, `prompt` turns messages into the one text that the service takes, `cookies` finds the cookies
of a browser. The names below are public, here and nowhere else.
"""

from __future__ import annotations

from .cookies import get_cookies, set_cookies
from .prompt import format_prompt
from .provider import Aichat, create_completion

__all__ = ["Aichat", "create_completion", "format_prompt", "get_cookies", "set_cookies"]
