"""A key put into the user's file: nothing else in it changes, and nobody else can read it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from aichat_magic.core import config_edit
from aichat_magic.core.config_edit import edit_provider
from aichat_magic.core.errors import ConfigError
from aichat_magic.core.secrets import Secret

KEY = "sk-canary-\"quoted\\'"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "config.toml"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# mine\nmodel = 'a/b'   # why\n",
        "model = 'a/b'",
        "[providers.groq]   # fast\napi_key = 'old'  # 2025\ndefault_model = 'm'\n\n# end\n[options]\nseed = 1\n",
        "[providers.groq]\n[options]\nseed = 1\n",
        "[ providers . 'groq' ]\n'api_key' = 'old'\n",
        '[providers."groq"]\nbase_url = "http://x"\n[providers.groq.headers]\nX = "1"\n',
        "model = 'a/b'\r\n[providers.groq]\r\n# kept\r\ndefault_model = 'm'\r\n",
        "[providers.groq-2]\napi_key = 'other'\n",
        "system = '''\n[providers.other]\n'''\n",
    ],
)
def test_only_the_entry_changes(config: Path, text: str) -> None:
    write(config, text)
    edit_provider(config, "groq", {"api_key": Secret(KEY), "keyring": None})
    wanted = tomllib.loads(text)
    wanted.setdefault("providers", {}).setdefault("groq", {})["api_key"] = KEY
    after = config.read_bytes().decode()
    assert tomllib.loads(after) == wanted
    kept = [line for line in text.split("\n") if line.strip() and "old" not in line]
    assert [line for line in after.split("\n") if line in kept] == kept
    edit_provider(config, "groq", {"api_key": None})
    del wanted["providers"]["groq"]["api_key"]
    assert tomllib.loads(config.read_text()) == wanted


def test_file_is_made_where_there_is_none(config: Path) -> None:
    edit_provider(config, "my lab", {"keyring": True})
    assert tomllib.loads(config.read_text()) == {"providers": {"my lab": {"keyring": True}}}


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_file_is_for_its_user_alone_and_a_link_stays_a_link(config: Path, tmp_path: Path) -> None:
    write(config, "model = 'a/b'\n")
    config.chmod(0o644)
    link = tmp_path / "link.toml"
    link.symlink_to(config)
    edit_provider(link, "groq", {"api_key": Secret(KEY)})
    assert link.is_symlink()
    assert config.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    "text",
    [
        "providers = { groq = { api_key = 'old' } }\n",
        "providers.groq.api_key = 'old'\n",
        "[providers]\ngroq = { default_model = 'm' }\n",
        "[providers]\ngroq.default_model = 'm'\n",
        "[providers.groq]\napi_key = '''\nold'''\n",
        "[[providers]]\nname = 'x'\n",
        "providers = 3\n",
        "= no toml\n",
        "system = '''\n[providers.groq]\n'''\n",
    ],
)
def test_file_that_cannot_be_changed_safely_stays_as_it_is(config: Path, text: str) -> None:
    write(config, text)
    with pytest.raises(ConfigError, match=r"was not changed.*\[providers\.groq\]") as caught:
        edit_provider(config, "groq", {"api_key": Secret(KEY)})
    assert config.read_text() == text
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None


def test_write_that_fails_leaves_the_file_and_nothing_beside_it(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(config, "model = 'a/b'\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(config_edit.os, "fsync", full)
    with pytest.raises(ConfigError, match="no space left on device"):
        edit_provider(config, "groq", {"api_key": Secret(KEY)})
    assert config.read_text() == "model = 'a/b'\n"
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]
