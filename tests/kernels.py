"""Real kernels, driven the way a notebook drives them.

::

    with Kernel() as kernel:
        outcome = kernel.run("1 + 1")                 # Outcome(status="ok", outputs=(...), ...)
        first, second = kernel.run_all(["a()", "b()"])  # "Run All": both are queued before the first is done

        cell = kernel.start("wait_for_ever()")
        kernel.interrupt()
        outcome = kernel.finish(cell)
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import zmq
from effort import PATIENCE_S
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.connect import write_connection_file

# All that a kernel sees of the environment: no keys, no proxies, no HOME of the person who runs the tests.
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "REMOVED_DEFENCE", "LANG", "LC_ALL", "SYSTEMROOT", "COVERAGE_PROCESS_START")


# An expression, so that no name is left in the notebook.
_TASKS_LEFT = """
__import__("gc").collect() and 0 or sum(
    type(task.get_loop()).__module__.startswith("aichat_magic")
    for task in __import__("gc").get_objects()
    if isinstance(task, __import__("asyncio").Task) and not task.done()
)
"""

# From then on, what is interrupted has an hour to end by itself: that it ends at all shows that the interrupt has ended
# it, and not the grace time.
PATIENT = """
from aichat_magic.batching import runner as batches
from aichat_magic.core import sync as bridge
bridge.run_sync.__kwdefaults__["grace_s"] = bridge.iterate.__kwdefaults__["grace_s"] = batches._DRAIN_S = 3600.0
del batches, bridge
"""


def clean_environment(home: str | os.PathLike[str], extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment whose every directory is below `home`."""
    home = str(home)
    return {
        **{name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        "HOME": home,
        "USERPROFILE": home,
        "TMPDIR": home,
        "IPYTHONDIR": f"{home}/ipython",
        "JUPYTER_CONFIG_DIR": f"{home}/jupyter-config",
        "JUPYTER_DATA_DIR": f"{home}/jupyter-data",
        "JUPYTER_RUNTIME_DIR": f"{home}/jupyter-runtime",
        "XDG_CACHE_HOME": f"{home}/cache",
        "XDG_CONFIG_HOME": f"{home}/config",
        "XDG_DATA_HOME": f"{home}/data",
        "XDG_STATE_HOME": f"{home}/state",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **(extra or {}),
    }


@dataclass
class Outcome:
    """The outcome of one cell.

    Attributes:
        status: ``"ok"``, ``"error"`` or ``"aborted"``.
        stdout: Text written to it.
        stderr: Text written to it.
        outputs: `display_data`, `update_display_data` and `execute_result` messages in order, each the content of the
            message and its type under ``"type"``.
        error_name: Name of the error's class, or "".
        error_value: Its text.
        traceback: Its lines as sent to the notebook.
        execution_count: The number in ``In [n]``.
        next_cell: What the cell has put into a new cell below, or "".
        execution: Seconds from ``busy`` to ``idle``.
        was_cleared: Whether `clear_output` has removed something.
    """

    status: str = ""
    stdout: str = ""
    stderr: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)
    error_name: str = ""
    error_value: str = ""
    traceback: list[str] = field(default_factory=list)
    execution_count: int | None = None
    next_cell: str = ""
    execution: float = 0.0
    is_begun: bool = False
    is_idle: bool = False
    is_to_be_cleared: bool = False
    was_cleared: bool = False

    def clear(self) -> None:
        """Remove what has been shown, if the cell has asked for it: `clear_output(wait=True)` waits for an output."""
        if self.is_to_be_cleared:
            self.is_to_be_cleared, self.was_cleared = False, True
            self.stdout = self.stderr = ""
            self.outputs.clear()

    @property
    def is_done(self) -> bool:
        """Tell whether both the reply and the last output have arrived."""
        return bool(self.status) and self.is_idle

    @property
    def shown(self) -> str:
        """Return the plain text of everything displayed."""
        return "\n".join(str(output["data"].get("text/plain", "")) for output in self.outputs)

    @property
    def result(self) -> str:
        """Return the plain text of the cell's value, or ""."""
        values = [output for output in self.outputs if output["type"] == "execute_result"]
        return str(values[-1]["data"].get("text/plain", "")) if values else ""


class Kernel:
    """One kernel in a process and a home of its own; a context manager."""

    def __init__(
        self,
        *,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        arguments: Iterable[str] = (),
        module: str = "ipykernel_launcher",
    ) -> None:
        """Prepare; `env` is added to a clean environment; `arguments` to the command line of the kernel's `module`."""
        self._python = python
        self._env = env
        self._arguments = tuple(arguments)
        self._module = module
        self._outcomes: dict[str, Outcome] = {}
        self._replies: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self.home = Path(tempfile.mkdtemp(prefix="kernel-"))
        try:
            connection_file, _ = write_connection_file(str(self.home / "kernel.json"))
            command = [self._python, "-m", self._module, "-f", connection_file, *self._arguments]
            self._log = open(self.home / "log", "wb")  # closed in __exit__
            self.process = subprocess.Popen(
                command,
                cwd=self.home,
                env=clean_environment(self.home, self._env),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
            self._client = BlockingKernelClient(connection_file=connection_file)
            self._client.load_connection_file()
            # No heartbeat: on a busy machine it takes a kernel that is slow to start for a dead one.
            self._client.start_channels(hb=False)
            self._wait_for_ready(PATIENCE_S)
        except BaseException:
            self.__exit__()
            raise
        self._poller = zmq.Poller()
        self._channels = {}
        for channel in (self._client.shell_channel, self._client.iopub_channel, self._client.control_channel):
            self._poller.register(channel.socket, zmq.POLLIN)
            self._channels[channel.socket] = channel
        return self

    def __exit__(self, *exc_info: object) -> None:
        if hasattr(self, "_client"):
            if self.is_alive:
                self._client.shutdown()
                try:
                    self.process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    self.kill()
            self._client.stop_channels()
            self._client.context.destroy(linger=0)
        if hasattr(self, "process"):
            self.kill()
        if hasattr(self, "_log"):
            self._log.close()
        shutil.rmtree(self.home, ignore_errors=True)

    # --- the process

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        """Return what the kernel wrote to its own terminal."""
        return (self.home / "log").read_text(errors="replace")

    @property
    def fds(self) -> int:
        """Return the number of its open file descriptors; IPython's history, written now and then, is left out."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        number = 0
        for fd in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                number += not os.readlink(folder / fd).startswith(f"{self.home}/ipython")
        return number

    @property
    def tasks_left(self) -> int:
        """Return the number of tasks in loops of the package that are not done; the kernel's own come and go."""
        return int(self.value(_TASKS_LEFT))

    @property
    def rss(self) -> int:
        """Return its resident memory, in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """Send SIGKILL to the kernel and its children."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(PATIENCE_S)

    def interrupt(self, *, by_message: bool = False, times: int = 1) -> None:
        """Send SIGINT, as Jupyter sends it by default; or the `interrupt_request` message on the control channel."""
        for _ in range(times):
            if by_message:
                self.control("interrupt_request")
            else:
                self.process.send_signal(signal.SIGINT)

    def control(self, kind: str, **content: Any) -> dict[str, Any]:
        """Send a message on the control channel and return the content of its reply."""
        message = self._client.session.msg(kind, content)
        self._client.control_channel.send(message)
        identity = message["header"]["msg_id"]
        self._receive_until(lambda: identity in self._replies, PATIENCE_S, f"no reply to {kind}")
        return self._replies.pop(identity)

    def complete(self, code: str, cursor: int | None = None) -> dict[str, Any]:
        """Press Tab at a position in a cell (default: its end), and return the content of the `complete_reply`."""
        identity = self._client.complete(code, len(code) if cursor is None else cursor)
        self._receive_until(lambda: identity in self._replies, PATIENCE_S, "no completions")
        return self._replies.pop(identity)

    # --- cells

    def start(
        self, code: str, *, cell_id: str | None = "", subshell: str | None = None, allow_stdin: bool = False
    ) -> str:
        """Send a cell and return at once with its key.

        The default `cell_id` is a new one, as JupyterLab sends it. None: the request names no cell, as those of
        consoles (with `allow_stdin`: they may ask the user, see `type`) and of programs that run notebooks (without).
        """
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": True,
        }
        metadata = {} if cell_id is None else {"cellId": cell_id or uuid.uuid4().hex}
        message = self._client.session.msg("execute_request", content, metadata=metadata)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        key = str(message["header"]["msg_id"])
        self._outcomes[key] = Outcome()
        self._client.shell_channel.send(message)
        return key

    def type(self, text: str, timeout: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until a cell asks the user, answer, and return the content of its request."""
        content: dict[str, Any] = self._client.get_stdin_msg(timeout=timeout)["content"]
        self._client.input(text)
        return content

    def begun(self, key: str, timeout: float = PATIENCE_S) -> None:
        """Wait until the kernel has started the cell."""
        outcome = self._outcomes[key]
        self._receive_until(lambda: outcome.is_begun, timeout, "the cell did not begin")

    def seen(self, key: str, text: str, timeout: float = PATIENCE_S) -> None:
        """Wait until the cell has printed or displayed `text`."""
        outcome = self._outcomes[key]
        self._receive_until(
            lambda: text in outcome.stdout or text in outcome.shown, timeout, f"the cell did not show {text!r}"
        )

    def finish(self, key: str, timeout: float = PATIENCE_S) -> Outcome:
        """Wait until the cell is over."""
        outcome = self._outcomes[key]
        self._receive_until(lambda: outcome.is_done, timeout, "the cell did not end")
        return self._outcomes.pop(key)

    def is_done(self, key: str) -> bool:
        """Tell whether the cell is over, as far as messages have been read."""
        return self._outcomes[key].is_done

    def listen(self) -> None:
        """Read the messages that the kernel sends within a fifth of a second."""
        end = time.monotonic() + 0.2
        while (left_s := end - time.monotonic()) > 0:
            self._receive(left_s)

    def run(
        self,
        code: str,
        *,
        timeout: float = PATIENCE_S,
        cell_id: str | None = "",
        subshell: str | None = None,
        allow_stdin: bool = False,
    ) -> Outcome:
        """Run one cell."""
        return self.finish(self.start(code, cell_id=cell_id, subshell=subshell, allow_stdin=allow_stdin), timeout)

    def run_all(self, codes: Iterable[str], *, timeout: float = PATIENCE_S) -> list[Outcome]:
        """Queue all cells, then wait for all."""
        keys = [self.start(code) for code in codes]
        return [self.finish(key, timeout) for key in keys]

    def value(self, code: str, *, timeout: float = PATIENCE_S) -> str:
        """Run a cell that must succeed, and return its value as text."""
        outcome = self.run(code, timeout=timeout)
        assert outcome.status == "ok", "\n".join(outcome.traceback) or outcome.status
        return outcome.result

    # --- messages

    def _wait_for_ready(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while True:
            try:
                self._client.wait_for_ready(timeout=2)
                return
            except RuntimeError:
                assert self.is_alive, f"the kernel died\n{self.log}"
                assert time.monotonic() < end, f"the kernel did not start within {timeout} s\n{self.log}"

    def _receive_until(self, condition: Any, timeout: float, complaint: str) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert self.is_alive, f"the kernel died\n{self.log}"
            assert time.monotonic() < end, f"{complaint} within {timeout} s\n{self.log}"
            self._receive(0.2)

    def _receive(self, timeout: float) -> None:
        """Read the messages that have arrived; wait up to the given seconds for the first."""
        for socket, _ in self._poller.poll(timeout * 1000):
            try:
                message = self._channels[socket].get_msg(timeout=0)
            except queue.Empty:
                continue
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        parent = message["parent_header"].get("msg_id", "")
        outcome = self._outcomes.get(parent)
        if outcome is None:
            if kind.endswith("_reply"):
                self._replies[parent] = content
        elif kind == "execute_reply":
            outcome.status = content["status"]
            outcome.execution_count = content.get("execution_count")
            for payload in content.get("payload", ()):
                outcome.next_cell = payload["text"] if payload["source"] == "set_next_input" else outcome.next_cell
            outcome.error_name = content.get("ename", outcome.error_name)
            outcome.error_value = content.get("evalue", outcome.error_value)
        elif kind == "execute_input":
            outcome.is_begun = True
            outcome.execution = -time.monotonic()
        elif kind == "status" and content["execution_state"] == "idle":
            outcome.is_idle = True
            if outcome.is_begun:
                outcome.execution += time.monotonic()
        elif kind == "clear_output":
            outcome.is_to_be_cleared = True
            if not content["wait"]:
                outcome.clear()
        elif kind == "stream":
            outcome.clear()
            setattr(outcome, content["name"], getattr(outcome, content["name"]) + content["text"])
        elif kind == "error":
            outcome.error_name, outcome.error_value = content["ename"], content["evalue"]
            outcome.clear()
            outcome.traceback = content["traceback"]
        elif kind in ("display_data", "update_display_data", "execute_result"):
            outcome.clear()
            outcome.outputs.append({"type": kind, **content})
