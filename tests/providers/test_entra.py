"""Tokens of Entra ID: fetched beside the event loop, once for all, and again before they expire."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from servers import ChatServer

from aichat_magic.core.endpoints import Endpoint
from aichat_magic.core.errors import MissingKeyError
from aichat_magic.core.messages import ChatRequest, Message
from aichat_magic.core.settings import Settings
from aichat_magic.http.client import HttpClient
from aichat_magic.providers import registry as registry_module
from aichat_magic.providers.entra import EntraTokens
from aichat_magic.providers.openai import OpenAI
from aichat_magic.providers.registry import Registry

pytestmark = pytest.mark.anyio

CANARY = "entra-canary-0123456789"


@dataclass
class Token:
    token: str
    expires_on: int


class Credential:
    """Stands in for `DefaultAzureCredential`: a token lasts an hour."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.threads: list[threading.Thread] = []
        self.scopes: list[str] = []

    def get_token(self, scope: str) -> Token:
        self.threads.append(threading.current_thread())
        self.scopes.append(scope)
        return Token(f"{CANARY}-{len(self.threads)}", int(self.clock[0]) + 3600)


@pytest.fixture
def clock() -> list[float]:
    return [1_000_000.0]


@pytest.fixture
def credential(clock: list[float]) -> Credential:
    return Credential(clock)


@pytest.fixture
def tokens(credential: Credential, clock: list[float]) -> EntraTokens:
    return EntraTokens("scope/.default", credential=lambda: credential, wall_clock=lambda: clock[0])


async def test_token_is_kept_until_shortly_before_it_expires(
    tokens: EntraTokens, credential: Credential, clock: list[float]
) -> None:
    first = await tokens.token()
    clock[0] += 3600 - 301
    assert await tokens.token() is first
    clock[0] += 2
    assert (await tokens.token()).reveal() == f"{CANARY}-2"
    assert credential.scopes == ["scope/.default"] * 2


async def test_many_that_ask_at_once_fetch_one_and_the_loop_does_not_wait(
    tokens: EntraTokens, credential: Credential
) -> None:
    found = await asyncio.gather(*(tokens.token() for _ in range(20)))
    assert len({token.reveal() for token in found}) == 1
    assert len(credential.threads) == 1
    assert credential.threads[0] is not threading.current_thread()


async def test_sign_in_that_fails_is_told_in_one_line_without_its_text() -> None:
    def fail() -> Any:
        raise ValueError(f"secret {CANARY}\n" * 50)

    with pytest.raises(MissingKeyError, match="az login") as caught:
        await EntraTokens("s", credential=fail).token()
    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None


async def test_token_is_sent_as_bearer_and_renewed_between_two_requests(
    tokens: EntraTokens, clock: list[float]
) -> None:
    with ChatServer() as server:
        async with contextlib.aclosing(HttpClient()) as http:
            provider = OpenAI(
                Endpoint(provider="azure", base_url=server.url, key_header="api-key", tokens=tokens), http
            )
            for _ in range(2):
                await provider.prepare()
                await provider.complete(ChatRequest(model="m", messages=(Message("user", "hi"),)))
                clock[0] += 3600
        sent = [received.headers["authorization"] for received in server.requests]
    assert sent == [f"Bearer {CANARY}-1", f"Bearer {CANARY}-2"]
    assert all("api-key" not in received.headers for received in server.requests)


@pytest.mark.parametrize(
    ("environ", "given", "has_tokens"),
    [
        ({"AZURE_OPENAI_ENDPOINT": "res"}, "", True),
        ({"AZURE_OPENAI_ENDPOINT": "res", "AZURE_OPENAI_API_KEY": "k"}, "", False),
        ({"AZURE_OPENAI_ENDPOINT": "res"}, "https://evil.example/openai/v1", False),
        ({"AZURE_OPENAI_ENDPOINT": "res"}, "http://res.openai.azure.com/openai/v1", False),
        ({"AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com.evil.example"}, "", False),
    ],
)
async def test_token_stands_in_for_a_key_that_is_not_set_at_hosts_of_microsoft(
    environ: dict[str, str], given: str, has_tokens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "is_entra_installed", lambda: True)
    endpoint = Registry(HttpClient()).resolve("azure/m", Settings(environ=environ), base_url=given).provider.endpoint
    assert (endpoint.tokens is not None) == has_tokens


async def test_without_the_extra_a_key_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "is_entra_installed", lambda: False)
    with pytest.raises(MissingKeyError, match=r"AZURE_OPENAI_API_KEY[^$]*\[azure\]"):
        Registry(HttpClient()).resolve("azure/m", Settings(environ={"AZURE_OPENAI_ENDPOINT": "res"}))


async def test_default_credential_of_microsoft_takes_our_scope() -> None:
    pytest.importorskip("azure.identity", reason='pip install "aichat-magic[azure]"')
    environment = {"AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(MissingKeyError, match=r"CredentialUnavailableError|ClientAuthenticationError"):
            await EntraTokens("https://cognitiveservices.azure.com/.default").token()
