"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


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
    from aichat_magic.weights import SMOLLM2, find_or_fetch

    folder = tmp_path_factory.mktemp("cache") / "models"
    path = find_or_fetch(SMOLLM2.name, environ={}, cache_dir=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AICHAT_MODEL_DIR", str(folder))
        yield folder
    path.unlink()  # pytest keeps the folders of three sessions
