"""Front ends: how the output of a cell may change while it runs.

A front end that names the cell in its request (`cellId` in its metadata: JupyterLab, Notebook 7, VS Code) is a notebook
that replaces an output when an update for it comes. Consoles (qtconsole, Spyder, jupyter-console) show what comes below
what there is: they ignore updates, and `clear_output` clears no more than their last line (qtconsole 5.7, 2026-11).
"""

from __future__ import annotations

import enum
import re
import sys
from typing import Any

# The cell is nothing but one magic, its value perhaps assigned: a line of it alone, or all below a `%%` line.
# Compiled on first use, by `re` itself.
_ONLY_MAGIC = r"(?s)\s*(?:%%aichat\b.*|(?:[^\W\d]\w*\s*=\s*)?%aichat\b[^\n]*\s*)"


class FrontEnd(enum.Enum):
    """Kind of front end, by what becomes of an output that changes."""

    CAPTURED = "all outputs are kept by the cell itself, such as %%capture"
    TERMINAL = "no kernel"
    NOTEBOOK = "names its cells and replaces outputs"
    CLASSIC = "names no cell, but a Jupyter server runs a notebook there: its outputs can be cleared"
    PROGRAM = "names no cell and answers no questions: nobody watches"
    CONSOLE = "names no cell: outputs come below each other"


def front_end(shell: Any, *, has_notebook: bool = False) -> FrontEnd:
    """Return which kind of front end shows the running cell.

    Args:
        shell: The IPython shell; None outside of IPython.
        has_notebook: Whether a Jupyter server has started the kernel for a notebook.
    """
    if type(getattr(shell, "display_pub", None)).__name__ == "CapturingDisplayPublisher":
        return FrontEnd.CAPTURED
    if getattr(shell, "kernel", None) is None:
        return FrontEnd.TERMINAL
    if cell_id(shell):
        return FrontEnd.NOTEBOOK
    # nbclient, and with it papermill, `jupyter execute` and `nbconvert --execute`.
    if _request(shell).get("content", {}).get("allow_stdin") is False:
        return FrontEnd.PROGRAM
    return FrontEnd.CLASSIC if has_notebook else FrontEnd.CONSOLE


def cell_id(shell: Any) -> str:
    """Return the front end's id of the running cell; empty if the request names none."""
    return str((_request(shell).get("metadata") or {}).get("cellId") or "")


def is_only_magic(shell: Any) -> bool:
    """Tell whether the running cell consists of one `%%aichat` or `%aichat`, so that no other output is in it."""
    code = str(_request(shell).get("content", {}).get("code", ""))
    return re.fullmatch(_ONLY_MAGIC, code) is not None


def current_shell() -> Any:
    """Return the IPython shell of this process, or None. IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def is_kernel_stream(stream: Any) -> bool:
    """Tell whether a stream belongs to a kernel: what is written to it is shown by a front end, whatever it claims."""
    # Spyder's subclass of it claims to be a terminal.
    return any(base.__name__ == "OutStream" for base in type(stream).__mro__)


def _request(shell: Any) -> dict[str, Any]:
    """Return the message that asked for the running cell; empty where there is none."""
    request = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return request if isinstance(request, dict) else {}
