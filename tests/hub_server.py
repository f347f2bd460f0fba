"""A stand-in for the Hugging Face Hub on loopback: its API, its files, and the server of another host that holds them.

It answers as the Hub does (huggingface_hub 1.x and 2.x, and the Hub's own answers of 2026-11): `HEAD` of a file is a
redirect with `X-Repo-Commit`, `X-Linked-Etag` and `X-Linked-Size`; the address that it names holds the bytes, answers
`Range`, and gets no token; what is missing or gated has a status and `X-Error-Code`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from effort import PATIENCE_S

REPO = "owner/tiny-GGUF"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Asked:
    """A request: its method, its path without the query, its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Hub:
    """What the Hub holds and does; a test may change it at any time.

    Attributes:
        files: Bytes by the names of files.
        error: ``(status, X-Error-Code, X-Error-Message)`` in answer to every request of the API or of a file.
        file_error: The same, for files only: the page of a gated model is public.
        token: The token that it wants; empty: none.
        cut_after: The next answers with bytes break off after so many bytes each.
        stall_s: Pause after the first bytes of an answer.
        ignores_range: Whether a `Range` is answered by the whole file.
        flip: Whether a byte of the files is wrong.
        has_etag: Whether files have a hash, as on every Hub.
        asked: All requests.
        fetched_at: When bytes were asked for, on the monotonic clock.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    error: tuple[int, str, str] | None = None
    file_error: tuple[int, str, str] | None = None
    token: str = ""
    cut_after: list[int] = field(default_factory=list)
    stall_s: float = 0.0
    ignores_range: bool = False
    flip: bool = False
    has_etag: bool = True
    asked: list[Asked] = field(default_factory=list)
    fetched_at: list[float] = field(default_factory=list)
    url: str = ""
    store_url: str = ""

    def fetched(self) -> list[Asked]:
        """The requests for bytes."""
        return [one for one in self.asked if one.method == "GET" and one.path.startswith("/store/")]

    def wait_for_bytes(self) -> None:
        """Wait until bytes are asked for."""
        until = time.monotonic() + PATIENCE_S
        while not self.fetched():
            assert time.monotonic() < until
            time.sleep(0.02)


@contextmanager
def hub_server(**has: Any) -> Iterator[Hub]:
    """Run the Hub and the server of its files until the `with` block ends."""
    hub = Hub(**has)
    handler = type("Handler", (_Handler,), {"hub": hub})
    with (
        _Server(("127.0.0.1", 0), handler) as front,
        _Server(("127.0.0.1", 0), handler) as back,
    ):
        hub.url, hub.store_url = (f"http://127.0.0.1:{each.server_address[1]}" for each in (front, back))
        for each in (front, back):
            threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield hub
        finally:
            for each in (front, back):
                each.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: clients that go away are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.asked.append(Asked(self.command, path, headers))
        if path.startswith("/store/"):
            self._store(hub.files[path.removeprefix("/store/")], headers.get("range", ""))
        elif hub.error:
            self._refuse(*hub.error)
        elif hub.token and headers.get("authorization") != f"Bearer {hub.token}":
            self._refuse(401, "RepoNotFound", "Repository not found")
        elif path == f"/api/models/{REPO}":
            listed = [
                {"rfilename": name, "size": len(data), "blobId": "0" * 40, "lfs": {"sha256": "0" * 64, "size": 1,
                                                                                   "pointerSize": 134}}
                for name, data in hub.files.items()
            ]  # fmt: skip
            self._send(200, json.dumps({"id": REPO, "sha": COMMIT, "siblings": listed}).encode())
        elif path.startswith(f"/{REPO}/resolve/"):
            self._file(path.removeprefix(f"/{REPO}/resolve/").partition("/")[2])
        else:
            self._refuse(404, "RepoNotFound", "Repository not found")

    def _file(self, name: str) -> None:
        """Answer for a file: where its bytes are, and what they are."""
        hub = self.hub
        if hub.file_error:
            self._refuse(*hub.file_error)
        elif name not in hub.files:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": COMMIT})
        else:
            data = hub.files[name]
            etag = f'"{hashlib.sha256(data).hexdigest()}"' if hub.has_etag else '"../../../etc/passwd"'
            self._send(
                302,
                b"",
                {
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-Etag": etag,
                    "X-Linked-Size": str(len(data)),
                    "ETag": '"of the redirect"',
                    "Location": f"{hub.store_url}/store/{name}",
                },
            )

    def _store(self, data: bytes, range_: str) -> None:
        """Send bytes, from where they were asked for."""
        hub, begin = self.hub, 0
        hub.fetched_at.append(time.monotonic())
        if hub.flip:
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = {"Content-Type": "binary/octet-stream", "ETag": '"of the store"'}
        if range_ and not hub.ignores_range:
            begin = int(range_.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        rest = data[begin:]
        self.send_response(206 if "Content-Range" in headers else 200)
        for name, value in {**headers, "Content-Length": str(len(rest))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = hub.cut_after.pop(0) if hub.cut_after else len(rest)
        try:
            self.wfile.write(rest[: min(cut, 1000)])
            self.wfile.flush()
            if hub.stall_s:
                time.sleep(hub.stall_s)
            self.wfile.write(rest[min(cut, 1000) : cut])
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            return
        if cut < len(rest):
            self.close_connection = True
            self.connection.shutdown(2)

    def _refuse(self, status: int, code: str, message: str, more: dict[str, str] | None = None) -> None:
        self._send(status, b'{"error": "no"}', {"X-Error-Code": code, "X-Error-Message": message, **(more or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
