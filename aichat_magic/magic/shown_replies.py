"""A hook that keeps a reply that has been streamed from being shown again as the value of its cell."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from ..core.messages import Reply
from ..text.front_end import FrontEnd, front_end
from ..text.reply_view import reply_bundle, summary_line
from ..text.terminal import terminal_width, write_stdout
from ..text.wrap import wrapped
from .live import DISPLAY_ID_PREFIX


class ShownReplies:
    """A hook that keeps a streamed reply from being shown a second time as the value of its cell.

    The value is still the reply, so that `_` and `Out` hold it. Only IPython's own display of that same object in that
    same execution is suppressed: in a notebook entirely, in terminals and consoles except for one line about the reply.
    """

    def __init__(self, shell: Any, kind: Callable[[], FrontEnd] | None = None) -> None:
        """Keep the shell; it is not changed before `install`.

        Args:
            shell: The IPython shell.
            kind: Returns the kind of front end of the running cell; default: as the request says.
        """
        self._shell = shell
        self._kind = kind or partial(front_end, shell)
        self._fresh: Reply | None = None
        self._is_alone = True
        self._execution_count = -1
        self._replaced: Callable[[Reply], object] | None = None
        self._is_installed = False

    def install(self) -> None:
        """Register the hook that IPython calls before it shows a reply."""
        if not self._is_installed:
            printers = self._printers()
            self._replaced = printers.get(Reply)
            printers[Reply] = self._display
            self._is_installed = True

    def uninstall(self) -> None:
        """Restore the shell as it was."""
        if self._is_installed:
            printers = self._printers()
            del printers[Reply]
            if self._replaced is not None:
                printers[Reply] = self._replaced
            self._fresh = self._replaced = None
            self._is_installed = False

    def mark(self, reply: Reply, *, is_alone: bool = True) -> None:
        """Remember that this reply has just been shown in full.

        Args:
            reply: The reply.
            is_alone: Whether its output has nothing else that must be kept, such as the replies of other models.
        """
        self._fresh = reply
        self._is_alone = is_alone
        self._execution_count = self._shell.execution_count

    def _printers(self) -> dict[type, Callable[[Reply], object]]:
        """Return IPython's display functions by type of value."""
        printers: dict[type, Callable[[Reply], object]]
        printers = self._shell.display_formatter.ipython_display_formatter.type_printers
        return printers

    def _display(self, reply: Reply) -> None:
        """Display a reply for IPython's formatter; returning means that it has been shown.

        Raises:
            NotImplementedError: IPython shall show the reply in the usual way.
        """
        hook = sys.displayhook
        is_fresh = reply is self._fresh and self._shell.execution_count == self._execution_count
        if is_fresh and type(hook).__name__ == "CapturingDisplayHook":
            self._fresh = None
            if not self._is_alone:
                return
            # This hook keeps an output for the value in any case, even an empty one, so that output replaces ours.
            _remove_captured(hook.outputs)  # type: ignore[attr-defined]  # the class is IPython's
        elif is_fresh and self._is_value():
            self._fresh = None
            kind = self._kind()
            if kind is FrontEnd.TERMINAL:
                width = terminal_width() - len(f"Out[{self._shell.displayhook.prompt_count}]: ")
                write_stdout(f"{wrapped(summary_line(reply), width)}\n")
            elif kind is FrontEnd.CONSOLE and self._is_alone:  # else it stands below each reply already
                write_stdout(f"[{summary_line(reply)}]\n")
            return
        if self._replaced is not None:
            self._replaced(reply)
        elif width := terminal_width():
            text = wrapped(reply_bundle(reply)["text/plain"], width)
            write_stdout("\n" * (self._is_value() and "\n" in text) + text + "\n")
        else:
            raise NotImplementedError

    def _is_value(self) -> bool:
        """Tell whether IPython is showing the value of a cell, and not an explicit `display(reply)`."""
        hook = self._shell.displayhook
        if getattr(self._shell, "kernel", None) is not None:
            # The hook of kernels has no flag for it, but a message in preparation.
            return getattr(hook, "msg", None) is not None
        # IPython 8.18 to 9.0 have no such flag: there, an explicit display may also show just that one line.
        return bool(getattr(hook, "is_active", True))


def _remove_captured(outputs: list[dict[str, Any]]) -> None:
    """Remove the most recently captured reply."""
    for index in reversed(range(len(outputs))):
        if str((outputs[index].get("transient") or {}).get("display_id", "")).startswith(DISPLAY_ID_PREFIX):
            del outputs[index]
            return
