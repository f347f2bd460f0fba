"""`%aichat key` and `%aichat use --base-url`: keys are asked for, kept with their server, and never shown."""

from __future__ import annotations

import contextlib
import getpass
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kernels import Kernel
from servers import ChatServer, status

from aichat_magic.chat.chat import Chat
from aichat_magic.core.errors import AichatError, BadInputError, ConfigError, MissingExtraError, MissingKeyError
from aichat_magic.core.messages import Message
from aichat_magic.core.options import CallOptions
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import load_settings
from aichat_magic.core.sync import run_sync as run
from aichat_magic.magic.key_command import KeyCommand, ask_for_key
from aichat_magic.store.memory import MemoryStore

CANARY = "sk-canary-typed-0123456789"


class SystemKeyring(types.ModuleType):
    """Stands in for the package `keyring` on a system that has one."""

    def __init__(self, priority: float = 5) -> None:
        super().__init__("keyring")
        self.kept: dict[tuple[str, str], str] = {}
        self.priority = priority
        self.reads = 0

    def get_keyring(self) -> Any:
        return self

    def get_password(self, service: str, name: str) -> str | None:
        self.reads += 1
        return self.kept.get((service, name))

    def set_password(self, service: str, name: str, value: str) -> None:
        self.kept[service, name] = value

    def delete_password(self, service: str, name: str) -> None:
        del self.kept[service, name]


class Session:
    """A session with a file of its own; `typed` is what the user types next."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.config = folder / "config.toml"
        self.environ = {"AICHAT_CONFIG": str(self.config), **(environ or {})}
        self.chat = Chat(settings=lambda: load_settings(self.environ), store=MemoryStore())
        self.typed = CANARY
        self.prompts: list[str] = []

    def ask(self, prompt: str) -> Secret:
        self.prompts.append(prompt)
        return Secret(self.typed)

    def key(self, line: str) -> str:
        return KeyCommand(self.chat, self.ask).run(line)

    def endpoint(self, model: str, base_url: str = "") -> Any:
        return self.chat.call((Message("user", "-"),), CallOptions(model=model, base_url=base_url)).provider.endpoint


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own keyring is touched: by default there is none."""
    monkeypatch.setitem(sys.modules, "keyring", SystemKeyring(priority=0))


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> SystemKeyring:
    keyring = SystemKeyring()
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    return keyring


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    run(session.chat.http.aclose())


def test_typed_key_is_kept_for_the_session_and_for_its_server_only(session: Session) -> None:
    with pytest.raises(MissingKeyError):
        session.endpoint("groq/m")
    said = session.key("groq")
    assert session.prompts == ["Key for groq at https://api.groq.com:443: "]
    assert said == "Key for groq at https://api.groq.com:443: kept in this session, and sent to no other server."
    found = session.endpoint("groq/m")
    assert (found.key, found.key_origin) == (Secret(CANARY), "this session")
    assert session.endpoint("groq/m", "https://else.example/v1").key is None
    assert session.endpoint("openai/m", "https://api.groq.com/openai/v1").key is None
    assert not session.config.exists()
    assert CANARY not in repr(session.chat.keys) + repr(session.chat.settings)


def test_typed_key_takes_precedence_over_the_environment_until_it_is_forgotten(tmp_path: Path) -> None:
    session = Session(tmp_path, {"GROQ_API_KEY": "from-environment"})
    session.key("groq")
    assert session.endpoint("groq/m").key == Secret(CANARY)
    assert session.key("groq --forget") == (
        "Forgot the key for groq: this session. The one in GROQ_API_KEY is in force now."
    )
    assert session.endpoint("groq/m").key_origin == "GROQ_API_KEY"
    assert session.key("groq --forget") == "There was no key for groq that %aichat key has kept."


def test_typed_key_belongs_to_the_address_that_is_set(session: Session) -> None:
    session.chat.set("base_url", "http://gpu:8000/v1")
    session.key("openai")
    assert session.prompts == ["Key for openai at http://gpu:8000: "]
    assert session.endpoint("qwen").key == Secret(CANARY)
    session.chat.set("base_url", "none")
    with pytest.raises(MissingKeyError):
        session.endpoint("openai/m")


@pytest.mark.parametrize(
    "line",
    ["", f"groq {CANARY}", f"{CANARY}", f"--save {CANARY}", f"groq --key {CANARY}", f"'{CANARY}", f"groq={CANARY}",
     f"--{CANARY}", f"groq --save --forget {CANARY}"],
)  # fmt: skip
def test_key_on_the_line_is_refused_and_not_repeated(session: Session, line: str) -> None:
    with pytest.raises(BadInputError, match=r"%aichat key PROVIDER|no provider of that name") as caught:
        session.key(line)
    assert CANARY not in str(caught.value)
    assert "history" in str(caught.value)
    assert caught.value.__context__ is None
    assert session.prompts == []


@pytest.mark.parametrize(
    ("typed", "match"),
    [
        ("", "No key was entered"),
        (f"{CANARY} x", r"holds a space.* Enter it again: %aichat key groq$"),
        (f"{CANARY}\n", "line end"),
    ],
)
def test_typed_text_that_is_no_key_is_refused_and_not_shown(session: Session, typed: str, match: str) -> None:
    session.typed = typed
    with pytest.raises(BadInputError, match=match) as caught:
        session.key("groq --save")
    assert CANARY not in str(caught.value)
    assert not session.config.exists()


@pytest.mark.parametrize("provider", ["local", "echo", "aichat"])
def test_provider_that_takes_no_key_is_told(session: Session, provider: str) -> None:
    with pytest.raises(BadInputError, match="takes no key"):
        session.key(provider)


def test_without_a_keyring_a_key_is_saved_in_the_file_that_only_the_user_reads(session: Session) -> None:
    session.config.write_text("# mine\n[providers.groq]\ndefault_model = 'm'   # fast\n")
    said = session.key("groq --save")
    assert str(session.config) in said
    assert CANARY not in said
    assert session.config.stat().st_mode & 0o077 == 0
    assert "# mine" in session.config.read_text()
    assert "# fast" in session.config.read_text()
    later = Session(session.config.parent)
    assert later.endpoint("groq/m").key_origin == "config.toml"
    assert "Forgot" in session.key("groq --forget")
    assert CANARY not in session.config.read_text()


def test_key_for_a_server_that_the_file_does_not_name_is_not_saved_in_it(session: Session) -> None:
    session.chat.set("base_url", "http://gpu:8000/v1")
    with pytest.raises(ConfigError, match=r"would belong to https://api\.openai\.com:443, not to http://gpu:8000"):
        session.key("openai --save")
    assert not session.config.exists()


def test_key_in_the_systems_keyring_is_found_by_later_sessions_for_its_server_only(
    session: Session, keyring: SystemKeyring
) -> None:
    session.config.write_text('[providers.groq]\napi_key = "old"\n')
    session.config.chmod(0o600)
    assert "the system's keyring" in session.key("groq --save")
    assert list(keyring.kept.values()) == [CANARY]
    assert session.config.read_text() == "[providers.groq]\nkeyring = true\n"
    later = Session(session.config.parent)
    for _ in range(3):
        assert later.endpoint("groq/m").key_origin == "the system's keyring"
    assert keyring.reads == 1
    assert later.endpoint("groq/m", "https://else.example/v1").key is None
    assert "the system's keyring" in later.key("groq --forget")
    assert keyring.kept == {}
    with pytest.raises(MissingKeyError):
        later.endpoint("groq/m")


def test_keyring_that_is_gone_is_told(session: Session, keyring: SystemKeyring) -> None:
    session.key("groq --save")
    keyring.priority = 0
    with pytest.raises(MissingExtraError, match=r"\[keyring\]"):
        Session(session.config.parent).endpoint("groq/m")


def test_keyring_is_not_looked_into_for_providers_without_a_key_in_it(session: Session, keyring: SystemKeyring) -> None:
    session.endpoint("ollama/m")
    with pytest.raises(MissingKeyError):
        session.endpoint("groq/m")
    assert keyring.reads == 0


def test_keyring_that_fails_is_one_error_of_ours(session: Session, keyring: SystemKeyring) -> None:
    session.key("groq --save")

    def locked(*_: object) -> str:
        raise RuntimeError(f"locked {CANARY}")

    keyring.get_password = locked  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="keyring cannot be read") as caught:
        Session(session.config.parent).endpoint("groq/m")
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("problem", [NotImplementedError(), EOFError(), OSError(), getpass.GetPassWarning()])
def test_where_nobody_can_type_the_variable_is_named(problem: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(prompt: str) -> str:
        raise problem

    monkeypatch.setattr(getpass, "getpass", fail)
    with pytest.raises(BadInputError, match="cannot be asked for here"):
        ask_for_key("Key: ")


# --- in a kernel


@pytest.mark.kernel
def test_kernel_asks_in_a_field_for_passwords_and_keeps_the_key_out_of_everything(tmp_path: Path) -> None:
    with ChatServer(lambda *_: status(401)) as server, Kernel() as kernel:
        kernel.run("%load_ext aichat_magic")
        kernel.run(f"%aichat use qwen --base-url {server.url}")
        cell = kernel.start("%aichat key openai", allow_stdin=True)
        asked = kernel.type(CANARY)
        outcomes = [kernel.finish(cell)]
        assert asked["password"] is True
        assert server.root in asked["prompt"]
        assert outcomes[0].status == "ok"
        for mode in ("Verbose", "Context"):
            outcomes += [kernel.run(f"%xmode {mode}"), kernel.run("%%aichat --debug\nhi")]
        outcomes += [kernel.run("%aichat providers"), kernel.run("%aichat doctor"), kernel.run("%history")]
        assert server.requests[-1].headers["authorization"] == f"Bearer {CANARY}"
        assert CANARY not in repr(outcomes) + kernel.log
        assert all(CANARY.encode() not in path.read_bytes() for path in kernel.home.rglob("*") if path.is_file())
        refused = kernel.run("%aichat key openai")
        assert refused.status == "error"
        assert "cannot be asked for here" in repr(refused)


# --- a server of one's own in one line


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.mark.kernel
def test_server_of_ones_own_is_one_line(server: ChatServer) -> None:
    with Kernel(env={"AICHAT_BASE_URL": "http://127.0.0.1:9/v1"}) as kernel:
        kernel.run("%load_ext aichat_magic")
        status = kernel.run("%aichat")
        assert "none yet at http://127.0.0.1:9/v1: %aichat use MODEL" in status.stdout + status.shown
        assert "Which model of the server at http://127.0.0.1:9/v1" in repr(kernel.run("%%aichat\nhi"))
        said = kernel.run(f"%aichat use qwen3 --base-url {server.url}/chat/completions?api-version=1")
        assert f"Model: openai/qwen3 at {server.url}?api-version=1 (from this session)" in said.stdout + said.shown
        assert kernel.run("%%aichat\nhi").status == "ok"
        assert kernel.run("%%aichat -m other\nhi").status == "ok"
        assert kernel.run("import aichat_magic; aichat_magic.ask('hi', model='openai/third')").status == "ok"
        assert [body["model"] for body in server.bodies] == ["qwen3", "other", "third"]
        assert {received.path for received in server.requests} == {"/v1/chat/completions?api-version=1"}
        dry = kernel.run("%%aichat --dry-run\nhi")
        assert f"{server.url}?api-version=1, from this session" in dry.stdout + dry.shown
        dry = kernel.run("%%aichat --dry-run -m llamacpp/x\nhi")
        assert "http://localhost:8080/v1, from built in" in dry.stdout + dry.shown
        moved = kernel.run("%aichat use llamacpp/x")
        assert "llamacpp has a server of its own" in moved.stdout + moved.shown
        assert "http://localhost:8080/v1" in repr(kernel.run("%%aichat --dry-run\nhi"))


def test_address_without_a_model_sends_nothing_to_the_embedded_one(tmp_path: Path, server: ChatServer) -> None:
    session = Session(tmp_path, {"AICHAT_BASE_URL": server.url})
    with contextlib.closing(session.chat.store), pytest.raises(AichatError, match="Which model of the server at"):
        session.endpoint("")
    assert session.endpoint("qwen").origin == "AICHAT_BASE_URL"
