"""A real Jupyter server, used through its API as a front end does.

::

    with JupyterServer(folder, env={...}) as server:
        server.write("a.ipynb", {"1f0e3dad": "1 + 1"})
        with server.open("a.ipynb") as notebook:
            outcome = notebook.run("1f0e3dad", "1 + 1")      # sent with the cell's id, as JupyterLab does
            notebook.rename("b.ipynb")
            notebook.restart()
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from jupyter_client.blocking import BlockingKernelClient
from kernels import Outcome, clean_environment

_START_S = 60.0
_CELL_S = 60.0


class JupyterServer:
    """A server in a process of its own, over the notebooks of a folder; a context manager."""

    def __init__(self, folder: Path, *, env: Mapping[str, str]) -> None:
        """Prepare; `env` is added to a clean environment, which the kernels have, too."""
        self.folder = folder
        self._env = env

    def __enter__(self) -> Self:
        home = self.folder / "home"
        self.root = self.folder / "notebooks"
        self.root.mkdir(parents=True)
        home.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._token = secrets.token_hex(16)
        self._url = f"http://127.0.0.1:{port}/api"
        self._runtime = home / "jupyter-runtime"
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", f"--ServerApp.root_dir={self.root}"]
        command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"]
        command += [f"--IdentityProvider.token={self._token}", "--allow-root"]
        self._log = open(self.folder / "server.log", "wb")  # closed in __exit__
        self._process = subprocess.Popen(
            command,
            cwd=home,
            env=clean_environment(home, self._env),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(Exception):  # each kernel is in a session of its own
                for kernel in self.api("GET", "kernels"):
                    self.api("DELETE", f"kernels/{kernel['id']}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._log.close()

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the server's API."""
        request = urllib.request.Request(
            f"{self._url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self._token}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_START_S) as response:
            text = response.read()
        return json.loads(text) if text else None

    def write(self, path: str, cells: Mapping[str, str]) -> None:
        """Save a notebook with these cells."""
        content = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {},
            "cells": [
                {
                    "cell_type": "code",
                    "id": cell_id,
                    "metadata": {},
                    "source": source,
                    "outputs": [],
                    "execution_count": None,
                }
                for cell_id, source in cells.items()
            ],
        }
        self.api("PUT", f"contents/{path}", {"type": "notebook", "format": "json", "content": content})

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[OpenNotebook]:
        """Open a notebook with a kernel of its own, until it is shut down."""
        body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        notebook = OpenNotebook(self, path, self.api("POST", "sessions", body), self._runtime)
        try:
            yield notebook
        finally:
            notebook.shut_down()

    def _wait(self) -> None:
        end = time.monotonic() + _START_S
        while True:
            assert self._process.poll() is None, (self.folder / "server.log").read_text(errors="replace")
            try:
                self.api("GET", "status")
                return
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < end, "the server did not start"
                time.sleep(0.1)


class OpenNotebook:
    """A notebook whose kernel runs."""

    def __init__(self, server: JupyterServer, path: str, session: Mapping[str, Any], runtime: Path) -> None:
        self._server = server
        self._path = path
        self._session = session
        self._connection_file = str(runtime / f"kernel-{session['kernel']['id']}.json")
        self._connect()

    def run(self, cell_id: str | None, code: str) -> Outcome:
        """Run a cell, sent with its id where there is one."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        metadata = {} if cell_id is None else {"cellId": cell_id}
        message = self._client.session.msg("execute_request", {**content, "user_expressions": {}}, metadata=metadata)
        self._client.shell_channel.send(message)
        key, outcome, end = message["header"]["msg_id"], Outcome(), time.monotonic() + _CELL_S
        while not outcome.is_idle:
            assert time.monotonic() < end, "the cell did not end"
            received = self._client.get_iopub_msg(timeout=_CELL_S)
            if received["parent_header"].get("msg_id") != key:
                continue
            kind, content = received["msg_type"], received["content"]
            if kind == "status":
                outcome.is_idle = content["execution_state"] == "idle"
            elif kind == "stream":
                setattr(outcome, content["name"], getattr(outcome, content["name"]) + content["text"])
            elif kind == "error":
                outcome.error_name, outcome.error_value = content["ename"], content["evalue"]
            elif kind in ("display_data", "update_display_data", "execute_result"):
                outcome.outputs.append({"type": kind, **content})
        outcome.status = "error" if outcome.error_name else "ok"
        return outcome

    def rename(self, path: str) -> None:
        """Rename it, as JupyterLab does: the file first, then the session."""
        self._server.api("PATCH", f"contents/{self._path}", {"path": path})
        self._server.api("PATCH", f"sessions/{self._session['id']}", {"path": path, "name": path})
        self._path = path

    def restart(self) -> None:
        """Restart its kernel."""
        self._client.stop_channels()
        self._server.api("POST", f"kernels/{self._session['kernel']['id']}/restart")
        self._connect()

    def shut_down(self) -> None:
        """End its kernel; the file stays."""
        self._client.stop_channels()
        with contextlib.suppress(urllib.error.HTTPError):
            self._server.api("DELETE", f"sessions/{self._session['id']}")
        self._client.context.destroy(linger=0)

    def _connect(self) -> None:
        self._client = BlockingKernelClient(connection_file=self._connection_file)
        self._client.load_connection_file()
        self._client.start_channels(hb=False)
        self._client.wait_for_ready(timeout=_START_S)
