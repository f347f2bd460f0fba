"""The public door: what it offers, and what walking through it costs."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import aichat_magic

ROOT = Path(aichat_magic.__file__).parents[1]
PUBLIC = [
    "AichatError",
    "AsyncProvider",
    "AuthenticationError",
    "BadInputError",
    "BatchRun",
    "BatchStoppedError",
    "Chat",
    "ChatInterrupt",
    "Chunk",
    "ConnectionFailedError",
    "Conversation",
    "DeadlineError",
    "Message",
    "MissingKeyError",
    "Options",
    "Progress",
    "ProviderError",
    "RateLimitError",
    "Reply",
    "StatusError",
    "Turn",
    "Usage",
    "ask",
    "ask_async",
    "batch",
    "batch_async",
    "batch_iter_async",
    "complete",
    "dedupe",
    "embed",
    "estimate",
    "extract",
    "nearest",
    "preview",
    "run",
    "similarity",
    "stream",
    "stream_async",
]


def test_public_surface_is_pinned() -> None:
    assert aichat_magic.__all__ == PUBLIC


def test_no_public_name_is_hidden_by_a_room_of_the_same_name() -> None:
    rooms = {path.stem for path in Path(aichat_magic.__file__).parent.glob("*.py")}
    assert not rooms & set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_exists_and_is_documented(name: str) -> None:
    assert getattr(aichat_magic, name).__doc__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = aichat_magic.nothing


QUIET = """
import socket, sys, os
def refuse(*args, **kwargs):
    raise AssertionError("network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
before = set()
for root, _, files in os.walk(os.environ["HOME"]):
    before |= {os.path.join(root, name) for name in files}
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
loaded = set(sys.modules)
shell.run_line_magic("load_ext", "aichat_magic")
heavy = {"pandas", "httpx", "httptools", "numpy", "pydantic", "markdown_it", "nest_asyncio", "xllamacpp", "tqdm",
         "jsonschema", "polars", "narwhals", "pyarrow"}
heavy &= set(sys.modules) - loaded
assert not heavy, heavy
ours = {name for name in sys.modules if name.startswith("aichat_magic.")} - {
    "aichat_magic.frames", "aichat_magic.frames.import_hook", "aichat_magic.magic", "aichat_magic.magic.extension"
}
assert not ours, f"nothing needs these before the first cell: {ours}"
after = set()
for root, _, files in os.walk(os.environ["HOME"]):
    after |= {os.path.join(root, name) for name in files}
assert not [name for name in after - before if "ipython" not in name], after - before
assert "aichat" in shell.magics_manager.magics["cell"]
print("quiet")
"""


CHAT = """
import sys
import aichat_magic
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "aichat_magic")
shell.run_cell("%%aichat -m echo/echo --format json\\n{}")
reply = shell.run_cell("%%aichat -m echo/echo --new\\nhello").result
assert "hello" in reply.text, reply
loaded = {"pydantic", "pydantic_core", "jsonschema", "referencing"} & set(sys.modules)
assert not loaded, loaded
shell.run_cell("from enum import Enum\\nMood = Enum('Mood', {'GOOD': 'good'})")
shell.run_cell("%%aichat -m echo/echo --schema Mood\\ngood")
assert "pydantic" in sys.modules
print("late")
"""


def test_chat_without_a_schema_loads_no_library_for_schemas(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHAT],
        env={"HOME": str(tmp_path), "PATH": "", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip().endswith("late"), done.stdout + done.stderr


def test_loading_touches_no_network_no_file_and_no_heavy_package(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIET],
        env={
            # Where the package is, and what it is to do without (acceptance/removals.py).
            **{name: os.environ[name] for name in ("PYTHONPATH", "REMOVED_DEFENCE") if name in os.environ},
            "HOME": str(tmp_path),
            "PATH": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip().endswith("quiet"), done.stderr


def test_every_dependency_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    begin = lines.index("dependencies = [")
    block = lines[begin + 1 : lines.index("]", begin)]
    assert block[0].strip().startswith("#")
    for number, line in enumerate(block):
        if not line.strip().startswith("#"):
            above = block[number - 1].strip()
            assert above.startswith("#") or "nest-asyncio>" in above, f"no reason above {line.strip()}"


def test_entry_points_name_classes_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for value in project["entry-points"]["aichat_magic.providers"].values():
        module, _, name = value.partition(":")
        __import__(module)
        assert issubclass(getattr(sys.modules[module], name), aichat_magic.AsyncProvider)
