"""Model files of the Hugging Face Hub: found, fetched and verified.

``huggingface_hub`` (the extra ``hub``) knows the Hub's API, the user's token, and the cache that the tools on a machine
share. The bytes are fetched here: since its release 2 it deletes what has arrived when a download ends early, and it
compares sizes, not hashes (huggingface_hub 2.4.0, `_download_to_tmp_and_move`, 2026-11).

Everything here blocks; `engine` calls it in a worker thread. No message quotes an error of another library: such a text
may contain the token.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ...core.errors import AichatError, MissingExtraError, ModelFileError
from ...core.messages import StatusCallback
from ...core.urls import host_of
from ...http.download import BrokenDownloadError, append_response
from ...text.numbers import byte_size
from .file_lock import locked
from .hub_names import HubFile, HubModel, chosen_files

_T = TypeVar("_T")

_PIECE_BYTES = 2**20
_SLACK_BYTES = 16 * 2**20
_POLL_S = 0.1
# How long the Hub may take to answer; without an answer a file that is on this machine is used.
_TIMEOUT_S = 10.0
# Attempts in a row that bring no byte, and the wait between two.
_MOST_FAILURES = 5
_WAIT_S = 1.0
# SHA-256 of large files, and git's SHA-1 of small ones.
_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_TRUE = ("1", "ON", "YES", "TRUE")
_OTHER = "or choose another model: %aichat providers"


def hub_library() -> Any:
    """Import ``huggingface_hub``.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtraError(
            'Models of the Hugging Face Hub need the extra "hub": pip install "aichat-magic[hub]"'
        ) from None
    return huggingface_hub


def fetch_from_hub(
    model: str,
    *,
    environ: Mapping[str, str],
    status: StatusCallback,
    is_cancelled: Callable[[], bool],
) -> Path:
    """Return the file of a model of the Hub, the first one of a model in parts; fetch what is not on this machine.

    Args:
        model: ``hf/OWNER/REPO``, with ``:QUANT`` or ``:FILE.gguf``.
        environ: The environment: ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HUB_CACHE`` and ``HF_HOME`` are read here.
        status: Called with the progress: ``(text, bytes done, bytes in all)``.
        is_cancelled: Called several times a second; True ends the work, and what has arrived is kept.

    Returns:
        Path of the file in the Hub's cache.

    Raises:
        MissingExtraError: ``huggingface_hub`` is not installed.
        ModelFileError: The file cannot be found, fetched, written or verified, or the work was cancelled.
        UnknownNameError: The name cannot be read.
    """
    name = HubModel.parse(model)
    download = _HubDownload(hub_library(), name, environ, status, is_cancelled)
    return _interruptible(download.path, is_cancelled)


def cached_file(model: str, *, environ: Mapping[str, str]) -> Path | None:
    """Return the file of a model of the Hub if it is on this machine, else None. No server is asked.

    Raises:
        MissingExtraError: ``huggingface_hub`` is not installed.
        UnknownNameError: The name cannot be read.
    """
    name = HubModel.parse(model)
    return _HubDownload(hub_library(), name, environ, lambda text, done, total: None, lambda: False).cached()


class _HubDownload:
    """One model, on its way from the Hub into the cache."""

    def __init__(
        self,
        hub: Any,
        model: HubModel,
        environ: Mapping[str, str],
        report: StatusCallback,
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Prepare the download; nothing is asked yet."""
        from huggingface_hub import constants

        self._hub = hub
        self._model = model
        self._report = report
        self._is_cancelled = is_cancelled
        self._endpoint = (environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        home = environ.get("HF_HOME")
        cache = environ.get("HF_HUB_CACHE") or (os.path.join(home, "hub") if home else constants.HF_HUB_CACHE)
        self._cache = Path(cache).expanduser()
        self._folder = self._cache / f"models--{model.repo.replace('/', '--')}"
        is_offline = environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE
        self._is_offline = is_offline or bool(constants.HF_HUB_OFFLINE)
        self._page = f"{self._endpoint}/{model.repo}"

    def path(self) -> Path:
        """Return the path of the (first) file; fetch what is missing."""
        try:
            files = chosen_files(self._listing(), self._model)
        except _UNREACHABLE as error:
            return self._cached_or_raise(error)
        try:
            paths = [self._file(file, number, len(files)) for number, file in enumerate(files, 1)]
        except _UNREACHABLE as error:
            return self._cached_or_raise(error)
        except OSError as error:
            self._raise_unwritable(error)
        return paths[0]

    def _listing(self) -> list[HubFile]:
        """Ask the Hub for the files of the repository."""
        if self._is_offline:
            raise _UnreachableError("HF_HUB_OFFLINE is set")
        self._report(f"Asking the Hugging Face Hub for {self._model.repo}", 0, 0)
        api = self._hub.HfApi(endpoint=self._endpoint)
        info = self._asked(lambda: api.model_info(self._model.repo, files_metadata=True, timeout=_TIMEOUT_S))
        return [HubFile(name=file.rfilename, size=file.size or 0) for file in info.siblings or ()]

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """Return what the Hub answers, or raise an error in our words."""
        from huggingface_hub import errors

        repo, failed = self._model.repo, ""
        try:
            return ask()
        except errors.GatedRepoError:
            problem = (
                f"The model {repo} is gated: accept its licence at {self._page}, set HF_TOKEN to a token of the "
                f"account that has accepted it ({self._endpoint}/settings/tokens), and run it again"
            )
        except errors.RepositoryNotFoundError:
            problem = (
                f"There is no model {repo} on the Hugging Face Hub, or it is private. Check the name at {self._page}; "
                f"a private model needs HF_TOKEN, a token of an account that may read it"
            )
        except (errors.RevisionNotFoundError, errors.EntryNotFoundError):
            problem = f"The file is no longer in {repo}. Look at {self._page}"
        except errors.HfHubHTTPError as error:
            code = error.response.status_code if error.response is not None else 0
            if code in (401, 403):
                problem = (
                    f"The Hugging Face Hub refuses access to {repo} (status {code}): the token in HF_TOKEN, or that "
                    f"of `hf auth login`, is not valid or may not read it. Set another one: "
                    f"{self._endpoint}/settings/tokens"
                )
            else:
                raise _UnreachableError(f"the Hub answers with status {code}") from None
        except Exception as error:  # the kinds of network errors change with the releases of the library
            failed = type(error).__name__
        if failed:
            raise _UnreachableError(f"the Hub cannot be reached ({failed})")
        raise _RefusedError(f"{problem}, {_OTHER}")

    def _file(self, file: HubFile, number: int, count: int) -> Path:
        """Return the path of one file in the cache; fetch it if it is not there."""
        url = self._hub.hf_hub_url(self._model.repo, file.name, endpoint=self._endpoint)
        found = self._asked(lambda: self._hub.get_hf_file_metadata(url, timeout=_TIMEOUT_S))
        etag, size = found.etag or "", found.size
        if not _HASH.fullmatch(etag) or size is None:
            raise ModelFileError(
                f"{self._endpoint} does not say what {file.name} contains: it sends no hash or no size. "
                f"Is HF_ENDPOINT the address of a Hub? Correct it, {_OTHER}"
            )
        blob = self._folder / "blobs" / etag
        if not blob.exists():
            part = f", part {number} of {count}" if count > 1 else ""
            text = f"Fetching {file.name.rpartition('/')[2]} ({byte_size(size)}{part}) from the Hugging Face Hub"
            self._fetch(url, blob, size, text)
        # The library enters the file into its cache; it finds the bytes there.
        return Path(
            self._asked(
                lambda: self._hub.hf_hub_download(
                    self._model.repo, file.name, endpoint=self._endpoint, cache_dir=str(self._cache)
                )
            )
        )

    def _fetch(self, url: str, blob: Path, size: int, text: str) -> None:
        """Fetch a file into ``blob``, going on where an earlier download ended, and verify it."""
        locks = self._cache / ".locks" / self._folder.name
        for folder in (blob.parent, locks):
            folder.mkdir(parents=True, exist_ok=True)
        partial = blob.with_name(f"{blob.name}.incomplete")
        with locked(locks / f"{blob.name}.lock", self._model.repo, self._report, self._check):
            if blob.exists():
                return  # another process has fetched it in the meantime
            have = _size_of(partial)
            if shutil.disk_usage(blob.parent).free < size - have + _SLACK_BYTES:
                raise OSError(errno.ENOSPC, f"{byte_size(size)} are needed")
            self._append_all(url, partial, size, text)
            self._report(f"Checking {self._model.repo}", 0, 0)
            if self._hash_of(partial, blob.name) != blob.name:
                partial.unlink()
                raise ModelFileError(
                    f"The file that has come for {self._model.repo} is not the published one: its hash differs. It was "
                    f"removed. Run it again, {_OTHER}"
                )
            os.replace(partial, blob)

    def _append_all(self, url: str, partial: Path, size: int, text: str) -> None:
        """Append to the partial file until it is whole; a connection that breaks is made again."""
        failures = 0
        while (have := _size_of(partial)) != size:
            if have > size:
                partial.unlink()
            self._report(text, min(have, size), size)
            # Asked for each time: addresses of the servers that hold the files expire.
            location = self._asked(lambda: self._hub.get_hf_file_metadata(url, timeout=_TIMEOUT_S)).location
            try:
                self._append(location, url, partial, size, text)
            except BrokenDownloadError as error:
                failures = 1 if _size_of(partial) > have else failures + 1
                if failures >= _MOST_FAILURES:
                    raise ModelFileError(
                        f"The download of {self._model.repo} broke off after {byte_size(_size_of(partial))} of "
                        f"{byte_size(size)}: {error}. What has come is kept: run it again to go on, {_OTHER}"
                    ) from None
                self._pause()

    def _append(self, location: str, url: str, partial: Path, size: int, text: str) -> None:
        """Append to the partial file from one response.

        Raises:
            BrokenDownloadError: It broke off, or there was none.
        """
        headers = dict(self._hub.utils.build_hf_headers(library_name="aichat-magic"))
        if host_of(location) != host_of(url):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}

        def progress(done: int) -> None:
            self._check()
            self._report(text, done, size)

        append_response(location, partial, size=size, headers=headers, timeout_s=_TIMEOUT_S, progress=progress)

    def _hash_of(self, path: Path, like: str) -> str:
        """Return the SHA-256 of a file, or git's SHA-1 if `like` is one."""
        digest = hashlib.sha256()
        if len(like) == 40:
            digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                self._check()
                digest.update(piece)
        return digest.hexdigest()

    def cached(self) -> Path | None:
        """Return the (first) file from the cache, or None if one is missing there; no server is asked.

        The layout is that of "Understand caching" in the documentation of ``huggingface_hub`` (2026-11).
        """
        reference = self._folder / "refs" / "main"
        commit = reference.read_text("ascii", "replace").strip() if reference.is_file() else ""
        if not _HASH.fullmatch(commit):
            return None
        snapshot = self._folder / "snapshots" / commit
        paths = [path for path in snapshot.rglob("*") if path.suffix.lower() == ".gguf" and path.is_file()]
        files = [HubFile(name=path.relative_to(snapshot).as_posix(), size=path.stat().st_size) for path in paths]
        try:
            return snapshot / chosen_files(files, self._model)[0].name
        except ModelFileError:
            return None

    def _cached_or_raise(self, error: _UnreachableError | _RefusedError) -> Path:
        """Return the file from the cache, or raise the error if it is not there."""
        if (path := self.cached()) is not None:
            self._report(f"Using {self._model.repo} as it is on this machine", 0, 0)
            return path
        if isinstance(error, _RefusedError):
            raise ModelFileError(str(error)) from None
        raise ModelFileError(
            f"The model {self._model.repo} is not on this machine, and {error}. Try again with a network "
            f"(and without HF_HUB_OFFLINE), {_OTHER}"
        ) from None

    def _raise_unwritable(self, error: OSError) -> NoReturn:
        """Raise the error for a file that cannot be written to the cache."""
        reason = error.strerror or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "there is no space left on the disk"
        raise ModelFileError(
            f"The model {self._model.repo} cannot be kept in {self._cache}: {reason}. Make room there, set "
            f"HF_HUB_CACHE to another folder, {_OTHER}"
        ) from None

    def _pause(self) -> None:
        """Wait before the next attempt."""
        until = time.monotonic() + _WAIT_S
        while time.monotonic() < until:
            self._check()
            time.sleep(_POLL_S)

    def _check(self) -> None:
        """Raise `ModelFileError` if the work was cancelled."""
        if self._is_cancelled():
            raise _interrupted()


class _UnreachableError(Exception):
    """The Hub does not answer; the text is the end of a sentence."""


class _RefusedError(Exception):
    """The Hub refuses; the text is the whole message for the user."""


_UNREACHABLE = (_UnreachableError, _RefusedError)


def _interrupted() -> ModelFileError:
    """Return the error of a download that was cancelled."""
    return ModelFileError("Fetching the model was interrupted. What has come is kept: run the cell again to go on.")


def _interruptible(work: Callable[[], _T], is_cancelled: Callable[[], bool]) -> _T:
    """Do work in a thread of its own, so that an interrupt need not wait until a silent server times out.

    A thread that is left behind writes no further piece: it checks before each whether it was cancelled.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=do, name="aichat-hub", daemon=True)
    thread.start()
    while thread.is_alive():
        if is_cancelled():
            raise _interrupted()
        thread.join(_POLL_S)
    if errors:
        if isinstance(failed := errors[0], AichatError):
            raise failed.with_traceback(None)  # one through another library may show the token among its variables
        raise ModelFileError(f"Fetching the model failed: {type(failed).__name__}. Try again, {_OTHER}")
    return results[0]


def _size_of(path: Path) -> int:
    """Return the bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0
