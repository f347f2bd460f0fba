"""The command that installs an extra repeats where the package was installed from."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import aichat_magic
from aichat_magic.core.installation import install_command

GIT = "https://git.example/ada/aichat.git"


class Installed(metadata.Distribution):
    """An installed package with these files in its folder of metadata."""

    def __init__(self, origin: dict[str, Any] | str | None = None, installer: str = "pip") -> None:
        text = origin if isinstance(origin, str) else json.dumps(origin)
        self._files = {"INSTALLER": f"{installer}\n", **({} if origin is None else {"direct_url.json": text})}

    def read_text(self, filename: str) -> str | None:
        return self._files.get(filename)

    def locate_file(self, path: str | os.PathLike[str]) -> Any:
        raise NotImplementedError


def test_the_index_is_asked_where_the_package_came_from_one() -> None:
    assert install_command("prices", installed=Installed()) == 'pip install "aichat-magic[prices]"'
    assert install_command(installed=Installed()) == 'pip install "aichat-magic"'


@pytest.mark.parametrize(("info", "before"), [({"editable": True}, "-e "), ({}, ""), ({"editable": False}, "")])
def test_a_folder_is_named_as_it_was_installed(tmp_path: Path, info: dict[str, Any], before: str) -> None:
    folder = tmp_path / "my work"
    folder.mkdir()
    origin = {"url": folder.as_uri(), "dir_info": info}
    command = install_command("prices", installed=Installed(origin))
    assert command == f'pip install {before}"{folder}[prices]"'
    assert shlex.split(command)[-1] == f"{folder}[prices]"
    assert install_command(installed=Installed(origin)) == f'pip install {before}"{folder}"'


@pytest.mark.parametrize(
    ("info", "more", "address"),
    [
        ({"vcs": "git", "requested_revision": "v0.2", "commit_id": "ab12"}, {}, f"git+{GIT}@v0.2"),
        ({"vcs": "git", "commit_id": "ab12"}, {}, f"git+{GIT}@ab12"),
        ({"vcs": "hg", "commit_id": "ab12"}, {"subdirectory": "python"}, f"hg+{GIT}@ab12#subdirectory=python"),
    ],
)
def test_a_repository_is_named_with_its_revision(info: dict[str, Any], more: dict[str, Any], address: str) -> None:
    installed = Installed({"url": GIT, "vcs_info": info, **more})
    assert install_command("local", installed=installed) == f'pip install "aichat-magic[local] @ {address}"'


def test_a_wheel_is_named_by_its_address(tmp_path: Path) -> None:
    wheel = tmp_path / "aichat_magic-0.2-py3-none-any.whl"
    wheel.touch()
    for url in (wheel.as_uri(), f"https://files.example/{wheel.name}"):
        installed = Installed({"url": url, "archive_info": {"hash": "sha256=00"}})
        assert install_command("schema", installed=installed) == f'pip install "aichat-magic[schema] @ {url}"'


@pytest.mark.parametrize("origin", ["not json", "[]", {"dir_info": {}}, {"url": 3}, {"url": "file:///gone/since"}])
def test_an_origin_that_says_nothing_leaves_the_index(origin: dict[str, Any] | str) -> None:
    assert install_command("prices", installed=Installed(origin)) == 'pip install "aichat-magic[prices]"'


def test_an_environment_of_uv_is_met_with_uv() -> None:
    assert install_command("prices", installed=Installed(installer="uv")).startswith("uv pip install ")


def test_a_package_that_was_never_installed_is_asked_of_the_index(tmp_path: Path) -> None:
    (tmp_path / "aichat_magic").symlink_to(Path(aichat_magic.__file__).parent, target_is_directory=True)
    code = f"import sys; sys.path = [{str(tmp_path)!r}, *[p for p in sys.path if 'site-packages' not in p]]\n"
    code += "from aichat_magic.core.installation import install_command; print(install_command('prices'))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'pip install "aichat-magic[prices]"'


def test_no_other_module_writes_such_a_command_itself() -> None:
    own = re.compile(r"pip install[^\n]*aichat-magic|pip install[^\n]*\[")
    package = Path(aichat_magic.__file__).parent
    found = [path.name for path in package.rglob("*.py") if own.search(path.read_text("utf-8"))]
    assert found == ["installation.py"]
