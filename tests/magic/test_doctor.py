"""`%aichat doctor` sees what is there and what is not, whatever is broken, and shows no secret."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import trustme
from servers import ChatServer

from aichat_magic.chat.chat import Chat
from aichat_magic.core.installation import install_command
from aichat_magic.core.settings import load_settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.magic import doctor
from aichat_magic.magic.doctor import Finding, Report, examine
from aichat_magic.magic.history import CellLocation
from aichat_magic.providers.llama.weights import SMOLLM2

CANARY = "sk-canary-doctor"


class Machine:
    """A home directory, an environment, and what the doctor finds in them."""

    def __init__(self, home: Path) -> None:
        self.config = home / "config.toml"
        self.environ = {
            "AICHAT_CONFIG": str(self.config),
            "AICHAT_STORE": str(home / "replies.sqlite3"),
            "AICHAT_CONVERSATIONS": str(home / "conversations.sqlite3"),
            "AICHAT_MODEL": "echo/echo",
        }

    def write(self, text: str, mode: int = 0o600) -> None:
        self.config.write_text(text)
        self.config.chmod(mode)

    def report(self, location: CellLocation | None = None) -> Report:
        chat = Chat(settings=lambda: load_settings(self.environ))
        try:
            return examine(chat, location or CellLocation(), self.environ)
        finally:
            run(chat.http.aclose())

    def found(self, subject: str) -> Finding:
        (found,) = [finding for finding in self.report().findings if finding.subject == subject]
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


def test_nothing_is_to_mend_where_nothing_is_wrong(machine: Machine) -> None:
    report = machine.report()
    assert {finding.state for finding in report.findings} <= {"ok", "note"}
    assert "nothing to fix" in str(report)
    assert not Path(machine.environ["AICHAT_STORE"]).exists()


@pytest.mark.parametrize(
    ("marker", "here"),
    [
        ("", True),
        ("; python_version < '3.0'", False),
        ("; sys_platform == 'elsewhere'", False),
        (f"; sys_platform == 'elsewhere' or sys_platform == '{sys.platform}'", True),
    ],
)
def test_package_of_another_system_is_not_missing(
    marker: str, here: bool, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: [f"no-such-package>=1{marker}"])
    found = [finding.found for finding in machine.report().findings if finding.subject == "packages"]
    assert ("missing: no-such-package" in found) == here


def test_packages_are_those_that_the_installation_asks_for(machine: Machine) -> None:
    assert f"httpx {metadata.version('httpx')}" in machine.found("packages").found


def test_missing_package_and_extra_come_with_the_line_that_installs_them(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = doctor._version_of
    monkeypatch.setattr(doctor, "_version_of", lambda name: "" if name in ("tqdm", "xllamacpp") else there(name))
    shown = str(machine.report())
    assert re.search(rf"fix   packages\s+missing: tqdm\n\s+-> {re.escape(install_command())}\n", shown)
    assert install_command("local") in shown
    assert machine.found("embedded model").state == "note"
    machine.environ["AICHAT_MODEL"] = "local/smollm2-135m"
    assert machine.found("embedded model").state == "fix"


def test_key_is_told_by_its_place_and_never_shown(machine: Machine) -> None:
    machine.environ |= {"OPENAI_API_KEY": CANARY, "ANTHROPIC_API_KEY": f"{CANARY} with a space"}
    machine.write(f'[providers.groq]\napi_key = "{CANARY}"\n')
    keys = machine.found("keys").found
    assert "openai (OPENAI_API_KEY)" in keys
    assert "groq (config.toml)" in keys
    assert "mistral" in keys.partition("absent")[2]
    assert machine.found("key anthropic").state == "fix"
    report = machine.report()
    assert CANARY not in str(report) + report._repr_mimebundle_()["text/html"] + repr(report)


def test_file_with_keys_that_others_can_read_is_told(machine: Machine) -> None:
    machine.write("", mode=0o644)
    assert machine.found("config.toml").fix == f"chmod 600 {machine.config}"


@pytest.mark.parametrize(
    ("config", "environ", "match"),
    [
        ("x = [", {}, "not TOML"),
        ("modle = 'x'", {}, "Did you mean 'model'"),
        ("", {"AICHAT_TEMPERATURE": "7"}, "AICHAT_TEMPERATURE"),
        ("timeout_s = -1", {}, "config.toml"),
    ],
)
def test_settings_that_cannot_be_used_are_told_and_the_rest_is_examined(
    machine: Machine, config: str, environ: dict[str, str], match: str
) -> None:
    machine.write(config)
    machine.environ |= environ | {"OPENAI_API_KEY": "k"}
    assert re.search(match, machine.found("settings").found)
    assert "openai (OPENAI_API_KEY)" in machine.found("keys").found


def test_variable_that_is_not_read_names_the_nearest(machine: Machine) -> None:
    machine.environ["AICHAT_MODLE"] = "x"
    shown = str(machine.report())
    assert "AICHAT_MODLE is not read. Did you mean 'AICHAT_MODEL'?" in shown


def test_model_that_cannot_be_asked_is_told(machine: Machine) -> None:
    machine.environ["AICHAT_MODEL"] = "groq/x"
    assert machine.found("model").state == "fix"
    assert "GROQ_API_KEY" in machine.found("model").found


def test_server_of_the_model_is_asked_for_its_models_only(machine: Machine, server: ChatServer) -> None:
    machine.environ |= {"AICHAT_MODEL": "vllm/m", "AICHAT_BASE_URL": server.url}
    found = machine.found("server vllm")
    assert found.state == "ok"
    assert server.url in found.found
    assert {received.path for received in server.requests} == {"/v1/models"}


def test_server_of_the_model_that_is_not_there_is_told(machine: Machine) -> None:
    with ChatServer() as server:
        machine.environ |= {"AICHAT_MODEL": "vllm/m", "AICHAT_BASE_URL": server.url}
    assert machine.found("server vllm").state == "fix"
    assert server.url in machine.found("server vllm").found


def test_address_of_the_model_and_of_bare_names_is_told_with_where_they_come_from(
    machine: Machine, server: ChatServer
) -> None:
    assert "a model without a provider is refused" in machine.found("bare names").found
    machine.environ |= {"AICHAT_MODEL": "qwen3", "AICHAT_BASE_URL": server.url, "AICHAT_API_KEY": CANARY}
    goes = f"goes to {server.url} (AICHAT_BASE_URL)"
    assert machine.found("bare names").found == f"a model without a provider {goes}"
    model = machine.found("model")
    assert model.found == f"openai/qwen3 (AICHAT_MODEL) {goes}, with the key from AICHAT_API_KEY"
    assert model.state == "ok"
    assert "1 model" in machine.found("server openai").found


def test_base_url_that_the_model_does_not_use_is_noted(machine: Machine) -> None:
    machine.write('base_url = "http://gpu.invalid/v1"\n[providers.vllm]\nbase_url = "http://127.0.0.1:9/v1"\n')
    machine.environ |= {"AICHAT_MODEL": "vllm/m"}
    model = machine.found("model")
    assert model.state == "note"
    assert "goes to http://127.0.0.1:9/v1 ([providers.vllm] in config.toml), without a key" in model.found
    assert "base_url http://gpu.invalid/v1 is for models without a provider and for openai/" in model.found
    assert machine.found("bare names").found.endswith("http://gpu.invalid/v1 (config.toml)")


def test_address_without_a_model_is_to_mend(machine: Machine, server: ChatServer) -> None:
    del machine.environ["AICHAT_MODEL"]
    machine.environ["AICHAT_BASE_URL"] = server.url
    model = machine.found("model")
    assert model.state == "fix"
    assert f"Which model of the server at {server.url}" in model.found
    assert machine.found("server openai").state == "ok"


def test_no_server_elsewhere_is_asked_unless_it_is_configured(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def answers(providers: object) -> list[int]:
        hosts = [provider.endpoint.host for provider in providers]  # type: ignore[attr-defined]  # providers
        asked.extend(hosts)
        return [0] * len(hosts)

    monkeypatch.setattr(doctor, "_answers", answers)
    machine.environ |= {"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k"}
    machine.report()
    assert asked
    assert all("localhost" in host for host in asked)
    asked.clear()
    machine.environ["AICHAT_MODEL"] = "openai/m"
    machine.report()
    assert [host for host in asked if "localhost" not in host] == ["https://api.openai.com:443"]


def test_damaged_store_is_told_and_left(machine: Machine) -> None:
    path = Path(machine.environ["AICHAT_STORE"])
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert machine.found("replies").state == "fix"
    assert path.exists()


def test_sound_store_is_told_with_its_size(machine: Machine) -> None:
    path = Path(machine.environ["AICHAT_CONVERSATIONS"])
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE x (y)")
    file.close()
    assert machine.found("conversations").state == "ok"
    assert str(path) in machine.found("conversations").found


def test_large_store_of_replies_is_noted_with_the_way_to_prune_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(sqlite3.connect(machine.environ["AICHAT_STORE"])) as file, file:
        file.execute("CREATE TABLE x (y)")
    file.close()
    assert machine.found("replies").state == "ok"
    monkeypatch.setattr(doctor, "SOFT_LIMIT_BYTES", 1000)
    assert machine.found("replies").state == "note"
    assert "%aichat store prune" in machine.found("replies").found


def test_store_in_a_place_that_is_no_folder_is_told(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    machine.environ["AICHAT_STORE"] = str(tmp_path / "file" / "replies.sqlite3")
    assert machine.found("replies").state == "fix"


def test_file_of_the_model_is_verified(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = doctor._version_of
    monkeypatch.setattr(doctor, "_version_of", lambda name: there(name) or "1")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / SMOLLM2.file).write_bytes(b"GGUF and no more")
    machine.environ |= {"AICHAT_MODEL": "local", "AICHAT_MODEL_DIR": str(folder)}
    assert "instead of 98,362,432" in machine.found("model file").found
    machine.environ["AICHAT_MODEL_DIR"] = str(tmp_path / "nowhere")
    shown = str(machine.report())
    assert "AICHAT_MODEL_DIR" in shown
    assert "1 to fix" in shown


def test_proxy_is_told_without_its_password(machine: Machine) -> None:
    machine.environ["HTTPS_PROXY"] = f"http://user:{CANARY}@proxy.example:3128"
    shown = str(machine.report())
    assert "HTTPS_PROXY http://proxy.example:3128" in shown
    assert CANARY not in shown
    assert "user" not in machine.found("proxy").found
    machine.environ["HTTPS_PROXY"] = "htp://x"
    assert machine.found("proxy").state == "fix"


def test_certificates_that_are_not_there_are_to_mend(machine: Machine, tmp_path: Path) -> None:
    assert all(finding.subject != "certificates" for finding in machine.report().findings)
    machine.environ["REQUESTS_CA_BUNDLE"] = str(tmp_path / "gone.pem")
    stale = machine.found("certificates")
    assert (stale.state, stale.fix) == ("fix", "set or unset REQUESTS_CA_BUNDLE")
    assert "gone.pem" in stale.found
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "gone.pem"))
    assert machine.found("certificates").found == f"{tmp_path / 'gone.pem'} (REQUESTS_CA_BUNDLE)"


def test_one_look_that_fails_leaves_the_others(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("broken metadata")

    monkeypatch.setattr(doctor, "_packages", fail)
    assert "broken metadata" in machine.found("packages").found
    assert machine.found("Python").state == "ok"


def test_report_fits_a_terminal_and_keeps_commands_whole(machine: Machine) -> None:
    machine.environ["AICHAT_MODLE"] = "x"
    for line in str(machine.report(CellLocation(is_notebook=True))).splitlines():
        assert len(line) <= 80 or "->" in line or "/" in line, line


def test_notebook_gets_a_table(machine: Machine) -> None:
    html = machine.report()._repr_mimebundle_()["text/html"]
    assert "<table" in html
    assert "Python" in html
