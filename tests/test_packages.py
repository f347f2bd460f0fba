"""What `pip install aichat-magic` puts onto a machine that has IPython and pandas already.

Read from the metadata of the installed packages; nothing is asked over the network. What is known of weaknesses of
single versions changes by the day and has no place here: this says how many parties are trusted at all.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
# Each that we do not ask for ourselves with who does.
EXPECTED = {
    "httpx",
    "httptools",  # reads responses; asks for nothing else
    "httpcore",  # httpx
    "h11",  # httpcore
    "anyio",  # httpx, httpcore
    "idna",  # httpx, anyio
    "certifi",  # httpx, httpcore
    "nest-asyncio",
    "markdown-it-py",
    "mdurl",  # markdown-it-py
    "tqdm",
    "platformdirs",
    "narwhals",  # tables of polars, Arrow and others; asks for nothing else
    "pydantic",
    "pydantic-core",  # pydantic
    "annotated-types",  # pydantic
    "typing-inspection",  # pydantic
    "typing-extensions",  # pydantic; IPython brings it below Python 3.12
}
# Not counted: tqdm's colorama, on Windows only, where IPython brings it, too.
ELSEWHERE = {"colorama"}
CAP = 18  # 17 and narwhals, which is the one interface to frames of all libraries and brings nothing with it


def environment(version: str, system: str) -> dict[str, str]:
    """What the markers of requirements ask for."""
    return {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "sys_platform": {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}[system],
        "platform_system": system,
        "os_name": "nt" if system == "Windows" else "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_machine": "x86_64",
    }


def ours() -> list[str]:
    """What this package asks for, as the checkout says it: what is installed may be older."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [str(line) for line in project["dependencies"]]


def brought_by(lines: list[str], where: dict[str, str]) -> set[str]:
    """These packages and all that they require, directly or not; of one that is not installed, only its name."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(line, frozenset[str]()) for line in lines]
    while waiting:
        line, extras = waiting.pop()
        wanted = Requirement(line)
        places = [where | {"extra": extra} for extra in extras or {""}]
        found = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        is_needed = wanted.marker is None or any(wanted.marker.evaluate(place) for place in places)
        if not is_needed or found in seen:
            continue
        seen.add(found)
        try:
            waiting += [(further, found[1]) for further in requires(found[0]) or ()]
        except PackageNotFoundError:
            continue
    return {name for name, _ in seen}


def brought(where: dict[str, str], more: Sequence[str] = ()) -> set[str]:
    """What comes with this package and would not be there with IPython and pandas; `more` were dependencies, too."""
    return brought_by([*ours(), *more], where) - brought_by(["ipython", "pandas"], where) - ELSEWHERE


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_clean_install_brings_these_packages_and_no_other(version: str, system: str) -> None:
    # The certificates of these systems are in no file.
    found = brought(environment(version, system)) - ({"truststore"} if system in ("Darwin", "Windows") else set())
    assert found <= EXPECTED, f"new packages, which need a reason: {found - EXPECTED}"
    with_ipython = {"typing-extensions"} if version == "3.11" else set()
    assert found == EXPECTED - with_ipython, "no longer needed: take them out of the list"
    assert len(found) <= CAP
    assert len(brought(environment(version, system))) <= CAP + 1


def test_one_more_dependency_is_one_more_package() -> None:
    where = environment("3.11", "Linux")
    assert brought(where, more=["rich>=13"]) - brought(where) >= {"rich"}


def test_next_python_takes_the_maintained_successor_and_nothing_more() -> None:
    found = brought(environment("3.14", "Linux"))
    assert found == EXPECTED - {"nest-asyncio"} | {"nest-asyncio2"}


def test_extras_are_asked_for_and_never_brought_along() -> None:
    found = brought_by(ours(), environment("3.11", "Linux"))
    assert not found & {
        "xllamacpp",
        "pip",
        "httpx-aiohttp",
        "aiohttp",
        "socksio",
        "browser-cookie3",
        "pytest",
        "jsonschema",
    }
