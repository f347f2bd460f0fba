"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes is a matter of the machine.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("skips")
    group.addoption("--no-skips", action="store_true", help="a skipped test is a failed run")
    group.addoption("--skips-to", metavar="FILE", help="write the skipped tests to FILE, one a line")


class Skips:
    """Collects what was skipped, for `--no-skips` and `--skips-to`."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.names[report.nodeid] = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.names[report.nodeid] = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if file := session.config.getoption("--skips-to"):
            Path(file).write_text("".join(f"{name}\n" for name in self.names), encoding="utf-8")
        if self.names and session.config.getoption("--no-skips") and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure() -> None:
    """Let the process end soon: every IPython shell that a test has made collects garbage at the exit."""
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Skips())


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> None:
    """A process that a shell starts in the background ignores SIGINT, and so would every program that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, the loop of IPython's kernels."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def nobody_else(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the user who runs the tests has configured or stored is neither seen nor touched."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AICHAT_") and name != "AICHAT_MODEL_DIR"]:
            patch.delenv(name)
        patch.setenv("AICHAT_STORE", "memory")
        patch.setenv("AICHAT_CONVERSATIONS", "memory")
        patch.setenv("AICHAT_CONFIG", str(tmp_path_factory.mktemp("config") / "none.toml"))
        yield


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the real SmolLM2, fetched once a session; `AICHAT_MODEL_DIR` names it meanwhile."""
    from aichat_magic.providers.llama.weights import SMOLLM2, find_or_fetch

    folder = tmp_path_factory.mktemp("cache") / "models"
    path = find_or_fetch(SMOLLM2.name, environ={}, cache_dir=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AICHAT_MODEL_DIR", str(folder))
        yield folder
    path.unlink()  # pytest keeps the folders of three sessions


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder in which nothing can be written; root, who may write anywhere, is somebody else meanwhile."""
    import concurrent.futures.thread  # noqa: F401  # somebody else may not read root's Python, so it comes before

    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    nobody = 65534
    if is_root:
        os.chown(folder, nobody, nobody)
    folder.chmod(0o500)
    if is_root:
        os.seteuid(nobody)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)
