"""JupyterLab in a headless browser, used the way a person uses it.

::

    with Lab(folder) as lab, chromium() as browser:
        lab.write("a.ipynb", ["%load_ext aichat_magic", "%%aichat\nHello"])
        notebook = Notebook.open(lab, browser.new_context(), "a.ipynb")
        notebook.run_all()
        notebook.wait_until_done(1)
        assert "Hello" in notebook.output(1).inner_text()

What a user does is done by keys, menus and buttons; only what a user cannot see (whether a cell is trusted, whether
the file is saved) is asked of the application.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from effort import PATIENCE_S
from kernels import clean_environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

_EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NUMBER = re.compile(r"\[\d+\]")
# A page of JupyterLab takes seconds on a small machine, and much longer on a busy one.
_START_MS = 60_000
_MS = 60_000
# JupyterLab's own questions about news and updates, and its look for extensions, would go to the network.
_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"checkForUpdates": False, "fetchNews": "false"},
    "@jupyterlab/extensionmanager-extension/plugin": {"enabled": False, "disclaimed": False},
}


def missing() -> str:
    """Return why browser tests cannot run here, with the command that helps; empty if they can."""
    lacking = [name for name in ("playwright", "jupyterlab") if importlib.util.find_spec(name) is None]
    if lacking:
        return f'not installed: {", ".join(lacking)}. Mend it: python -m pip install -e ".[browsertest]"'
    if not _executable():
        return "there is no Chromium. Mend it: apt-get install -y chromium, or CHROMIUM_FOR_TESTS=/path/to/chrome"
    return ""


def _executable() -> str:
    """Return the browser's program; playwright's own build is not needed."""
    return os.environ.get("CHROMIUM_FOR_TESTS") or next(filter(None, map(shutil.which, _EXECUTABLES)), "") or ""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(), args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Lab:
    """A server of JupyterLab with directories, a token and kernels of its own; a context manager.

    Attributes:
        root: The folder it serves.
        url: Its address.
        token: What lets one in.
    """

    def __init__(self, home: Path, env: dict[str, str] | None = None) -> None:
        """Prepare; `env` is added to the clean environment that kernels get."""
        self._home = home
        self._env = env
        self.root = home / "work"
        self.token = secrets.token_hex(16)
        self.url = ""

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True)
        for name, values in _SETTINGS.items():
            self._setting(name).parent.mkdir(parents=True, exist_ok=True)
            self._setting(name).write_text(json.dumps(values))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._log = open(self._home / "log", "wb")  # closed in __exit__
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
                "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--ServerApp.root_dir={self.root}",
                f"--IdentityProvider.token={self.token}", "--ServerApp.terminals_enabled=False",
            ],
            cwd=self.root,
            env={
                **clean_environment(self._home, self._env),
                "JUPYTERLAB_SETTINGS_DIR": str(self._home / "settings"),
                "JUPYTERLAB_WORKSPACES_DIR": str(self._home / "workspaces"),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )  # fmt: skip
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.send_signal(signal.SIGTERM)  # ends the kernels, too
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE_S)
        self._log.close()

    def _wait_until_up(self) -> None:
        """Wait for the file that the server writes once it listens; the port may differ from the one asked for."""
        end = time.monotonic() + PATIENCE_S
        info = self._home / "jupyter-runtime" / f"jpserver-{self._process.pid}.json"
        while time.monotonic() < end:
            assert self._process.poll() is None, f"JupyterLab did not start\n{self.log}"
            with contextlib.suppress(OSError, ValueError):
                self.url = str(json.loads(info.read_text())["url"]).rstrip("/")
                with socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), 1):
                    return
            time.sleep(0.05)
        raise AssertionError(f"JupyterLab did not start\n{self.log}")

    def _setting(self, name: str) -> Path:
        return self._home / "settings" / f"{name}.jupyterlab-settings"

    @property
    def log(self) -> str:
        """Return what the server and its kernels wrote."""
        return (self._home / "log").read_text(errors="replace")

    def write(self, name: str, cells: Iterable[str]) -> Path:
        """Write a notebook of code cells to a file."""
        value = {
            "cells": [
                {"cell_type": "code", "id": f"cell-{n}", "metadata": {}, "source": source, "outputs": [],
                 "execution_count": None}
                for n, source in enumerate(cells)
            ],
            "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }  # fmt: skip
        path = self.root / name
        path.write_text(json.dumps(value))
        return path


class Notebook:
    """One notebook, open in one tab of the browser.

    Attributes:
        page: The tab.
        requests: Addresses of all that the page has asked for.
        problems: Uncaught errors of the page, and dialogs that scripts have opened.
    """

    def __init__(self, page: Page) -> None:
        """Use `open`."""
        self.page = page
        self.requests: list[str] = []
        self.problems: list[str] = []
        page.set_default_timeout(_MS)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", self._on_dialog)

    def _on_dialog(self, dialog: Any) -> None:
        if dialog.type != "beforeunload":
            self.problems.append(f"dialog: {dialog.message}")
        dialog.accept()

    @classmethod
    def open(cls, lab: Lab, context: BrowserContext, name: str) -> Notebook:
        """Open a notebook by its address, and wait until its kernel is there."""
        notebook = cls(context.new_page())
        # A workspace of its own: otherwise the tabs of one notebook turn up in the next.
        workspace = secrets.token_hex(4)
        notebook.page.goto(f"{lab.url}/lab/workspaces/{workspace}/tree/{name}?token={lab.token}", timeout=_START_MS)
        notebook.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").first.wait_for(timeout=_START_MS)
        notebook._wait_for(
            "const panel = jupyterapp.shell.currentWidget;"
            "return panel?.sessionContext?.session?.kernel?.status === 'idle' && panel.context.isReady;",
            _START_MS,
        )
        return notebook

    # --- what a user does

    def run_all(self) -> None:
        """Choose Run > Run All Cells."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()

    def run(self, index: int) -> None:
        """Click into a cell, then Ctrl+Enter."""
        self.cell(index).locator(".jp-InputArea-editor .cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def complete(self, index: int, text: str) -> list[str]:
        """Write a text into a cell in place of what it holds, press Tab, and read what is offered."""
        self.cell(index).locator(".jp-InputArea-editor .cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.press("Delete")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Tab")
        items = self.page.locator(".jp-Completer:visible .jp-Completer-item code")
        items.first.wait_for()
        return items.all_inner_texts()

    def source(self, index: int) -> str:
        """Return the source of a cell."""
        return str(self.cell(index).locator(".jp-InputArea-editor .cm-content").inner_text())

    def interrupt(self) -> None:
        """Click the black square in the toolbar."""
        self.page.locator(".jp-NotebookPanel-toolbar [data-command='notebook:interrupt-kernel']").click()

    def save(self) -> None:
        """Press Ctrl+S, then wait until the file is written."""
        self.page.keyboard.press("Control+s")
        self._wait_for("return !jupyterapp.shell.currentWidget.context.model.dirty;", _MS)

    def theme(self, name: str) -> None:
        """Choose a theme under Settings > Theme."""
        self.page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        is_light = "false" if "Dark" in name else "true"
        self.page.locator(f"body[data-jp-theme-name='{name}'][data-jp-theme-light='{is_light}']").wait_for(
            state="attached"
        )
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def close(self) -> None:
        """Close the tab, and end the kernel."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.close()

    def photograph(self, name: str, *indices: int) -> None:
        """Save a picture of these cells, or all, into the folder that SCREENSHOTS_OF_TESTS names, if it names one."""
        if folder := os.environ.get("SCREENSHOTS_OF_TESTS"):
            every = self.page.locator(".jp-NotebookPanel:visible .jp-Cell")
            cells = [self.cell(index) for index in indices] or [every.nth(n) for n in range(every.count())]
            if indices:
                cells[-1].scroll_into_view_if_needed()
            boxes = [box for box in (cell.bounding_box() for cell in cells) if box]
            left, top = boxes[0]["x"] - 8, boxes[0]["y"] + 3  # less the border of a selected cell above
            bottom = min(boxes[-1]["y"] + boxes[-1]["height"], self.page.viewport_size["height"] - 32)
            clip = {"x": left, "y": top, "width": boxes[0]["width"] + 16, "height": bottom - top}
            self.page.screenshot(path=Path(folder) / f"{name}.png", clip=clip)

    def select(self, index: int) -> None:
        """Click on the mark left of a cell, so that another one is not the selected one any more."""
        self.cell(index).locator(".jp-InputArea-prompt").click()

    # --- what a user sees

    def cell(self, index: int) -> Locator:
        """Return the cell with this number, from 0."""
        return self.page.locator(f".jp-NotebookPanel:visible .jp-Cell[data-windowed-list-index='{index}']")

    def output(self, index: int) -> Locator:
        """Return all outputs of a cell."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    def replies(self, index: int) -> Locator:
        """Return the replies among the outputs of a cell."""
        return self.output(index).locator(".aichat-reply")

    def prompt(self, index: int) -> str:
        """Return ``[3]:`` if it has run, ``[*]:`` while it runs or waits, ``[ ]:`` before, and if it was given up."""
        shown: str = self.cell(index).locator(".jp-InputArea-prompt").inner_text()
        return shown.replace("\xa0", " ").strip()

    def wait_until_running(self, index: int) -> None:
        """Wait until its mark is a star."""
        self.cell(index).locator(".jp-InputArea-prompt", has_text="*").wait_for()

    def wait_until_done(self, *indices: int, timeout_s: float = _MS / 1000) -> None:
        """Wait until each cell has its number."""
        for index in indices:
            self.cell(index).locator(".jp-InputArea-prompt").filter(has_text=_NUMBER).wait_for(timeout=timeout_s * 1000)

    def is_trusted(self, index: int) -> bool:
        """Tell whether JupyterLab shows the outputs of a cell without cleaning them."""
        return bool(self.page.evaluate("i => jupyterapp.shell.currentWidget.content.model.cells.get(i).trusted", index))

    def _wait_for(self, body: str, timeout_ms: float) -> None:
        self.page.wait_for_function(f"() => {{ {body} }}", timeout=timeout_ms)
