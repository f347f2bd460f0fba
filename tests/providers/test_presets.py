"""The addresses of known servers, in every form in which their own programs take them, and the header of the key."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from servers import ChatServer, Received, status, text

from aichat_magic.core.errors import AichatError, AuthenticationError, ConfigError, MissingKeyError, NotWorkingError
from aichat_magic.core.messages import ChatRequest, Message
from aichat_magic.core.settings import Settings, load_settings
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.base import AsyncProvider
from aichat_magic.providers.presets import PRESETS, azure_address, databricks_address, ollama_address
from aichat_magic.providers.registry import Registry

pytestmark = pytest.mark.anyio

KEY = "sk-canary-presets-0123456789"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434/v1"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
        ("::", "http://[::1]:11434/v1"),
        ("[::]:8080", "http://[::1]:8080/v1"),
        ("::1", "http://[::1]:11434/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        ("[fd00::5]:8080", "http://[fd00::5]:8080/v1"),
        ("gpu.lab", "http://gpu.lab:11434/v1"),
        ("gpu.lab:8080", "http://gpu.lab:8080/v1"),
        ("gpu.lab:8080/", "http://gpu.lab:8080/v1"),
        ("gpu.lab/ollama", "http://gpu.lab:11434/ollama/v1"),
        ("gpu.lab:99999", "http://gpu.lab:11434/v1"),
        ("gpu.lab:port", "http://gpu.lab:11434/v1"),
        ("http://gpu.lab", "http://gpu.lab/v1"),
        ("https://gpu.lab", "https://gpu.lab/v1"),
        ("https://gpu.lab:8443/x/", "https://gpu.lab:8443/x/v1"),
        ("http://gpu.lab:11434/v1", "http://gpu.lab:11434/v1"),
        ("ollama.com", "https://ollama.com/v1"),
        (' "gpu.lab" ', "http://gpu.lab:11434/v1"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(host: str, address: str) -> None:
    assert ollama_address(host) == address
    found = Registry(HttpClient()).resolve("ollama/m", Settings(environ={"OLLAMA_HOST": host})).provider.endpoint
    assert (found.base_url, found.origin) == (address, "OLLAMA_HOST")


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("res", "https://res.openai.azure.com/openai/v1"),
        ("res.openai.azure.com", "https://res.openai.azure.com/openai/v1"),
        ("https://res.openai.azure.com/", "https://res.openai.azure.com/openai/v1"),
        ("https://res.openai.azure.com/openai", "https://res.openai.azure.com/openai/v1"),
        ("https://res.openai.azure.com/openai/v1/", "https://res.openai.azure.com/openai/v1"),
        (
            "https://res.openai.azure.com/openai/v1/?api-version=preview",
            "https://res.openai.azure.com/openai/v1?api-version=preview",
        ),
        (
            "https://res.openai.azure.com/?api-version=2024-10-21",
            "https://res.openai.azure.com/openai/deployments/my%20gpt?api-version=2024-10-21",
        ),
        (
            "https://res.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            "https://res.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
        ),
        ("https://res.services.ai.azure.com/models?api-version=1", "https://res.services.ai.azure.com/models?api-version=1"),
    ],
)  # fmt: skip
def test_endpoint_of_azure_is_a_resource_or_any_address_that_its_portal_shows(endpoint: str, address: str) -> None:
    settings = Settings(environ={"AZURE_OPENAI_ENDPOINT": endpoint, "AZURE_OPENAI_API_KEY": KEY})
    found = Registry(HttpClient()).resolve("azure/my gpt", settings).provider.endpoint
    assert found.base_url == address
    assert found.key_origin == "AZURE_OPENAI_API_KEY"
    assert azure_address(endpoint).startswith("https://")


@pytest.mark.parametrize(
    ("name", "given", "address"),
    [
        ("azure/m", "https://res.openai.azure.com/", "https://res.openai.azure.com/openai/v1"),
        (
            "azure/m",
            "https://res.openai.azure.com?api-version=1",
            "https://res.openai.azure.com/openai/deployments/m?api-version=1",
        ),
        ("azure/m", "https://gateway.example/azure", "https://gateway.example/azure"),
        ("ollama/m", "http://gpu:8080", "http://gpu:8080/v1"),
        ("ollama/m", "http://gpu/api", "http://gpu/api"),
        ("databricks/m", "https://dbc-1.example", "https://dbc-1.example/serving-endpoints"),
        ("openai/m", "http://gpu:8000", "http://gpu:8000"),
    ],
)
def test_server_alone_is_read_as_the_providers_own_programs_read_it(name: str, given: str, address: str) -> None:
    settings = Settings(environ={"AZURE_OPENAI_API_KEY": KEY})
    assert Registry(HttpClient()).resolve(name, settings, base_url=given).provider.endpoint.base_url == address


@settings_of_hypothesis(max_examples=300)
@example("https://[")
@example("//[")
@example("http://a:b@c:99999999")
@given(st.text(max_size=30))
def test_any_text_in_a_variable_is_an_address_or_one_error_of_ours(text: str) -> None:
    registry = Registry(HttpClient())
    for name in ("OLLAMA_HOST", "AZURE_OPENAI_ENDPOINT", "DATABRICKS_HOST", "AWS_BEDROCK_BASE_URL", "AWS_REGION"):
        settings = Settings(environ={name: text})
        for provider, preset in PRESETS.items():
            if name in preset.variables:
                with contextlib.suppress(AichatError):
                    registry.resolve(f"{provider}/m", settings)
                search = settings.search(provider, preset)
                assert isinstance(search.own_server() + str(search.has_address), str)


@pytest.mark.parametrize("host", ["dbc-1.cloud.databricks.com", "https://dbc-1.cloud.databricks.com/"])
def test_host_of_databricks_may_have_a_scheme(host: str) -> None:
    assert databricks_address(host) == "https://dbc-1.cloud.databricks.com/serving-endpoints"


@pytest.mark.parametrize(
    ("provider", "environ", "address"),
    [
        ("huggingface", {"HF_TOKEN": KEY}, "https://router.huggingface.co/v1"),
        ("huggingface", {"HUGGING_FACE_HUB_TOKEN": KEY}, "https://router.huggingface.co/v1"),
        ("fireworks", {"FIREWORKS_API_KEY": KEY}, "https://api.fireworks.ai/inference/v1"),
        ("cerebras", {"CEREBRAS_API_KEY": KEY}, "https://api.cerebras.ai/v1"),
        ("nvidia", {"NVIDIA_API_KEY": KEY}, "https://integrate.api.nvidia.com/v1"),
        (
            "bedrock",
            {"AWS_BEARER_TOKEN_BEDROCK": KEY, "AWS_REGION": "eu-central-1"},
            "https://bedrock-runtime.eu-central-1.amazonaws.com/openai/v1",
        ),
        (
            "bedrock",
            {"AWS_BEARER_TOKEN_BEDROCK": KEY, "AWS_DEFAULT_REGION": "us-west-2"},
            "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1",
        ),
        (
            "bedrock",
            {"AWS_BEARER_TOKEN_BEDROCK": KEY, "AWS_BEDROCK_BASE_URL": "https://bedrock-mantle.us-east-2.api.aws/v1"},
            "https://bedrock-mantle.us-east-2.api.aws/v1",
        ),
        (
            "databricks",
            {"DATABRICKS_TOKEN": KEY, "DATABRICKS_HOST": "dbc-1.cloud.databricks.com"},
            "https://dbc-1.cloud.databricks.com/serving-endpoints",
        ),
        ("moonshot", {"MOONSHOT_API_KEY": KEY}, "https://api.moonshot.ai/v1"),
        ("zai", {"ZAI_API_KEY": KEY}, "https://api.z.ai/api/paas/v4"),
        ("gemini", {"GOOGLE_API_KEY": KEY}, "https://generativelanguage.googleapis.com/v1beta/openai"),
        ("together", {"TOGETHER_AI_API_KEY": KEY}, "https://api.together.xyz/v1"),
    ],
)
def test_usual_variables_are_all_that_is_needed(provider: str, environ: dict[str, str], address: str) -> None:
    found = Registry(HttpClient()).resolve(f"{provider}/m", Settings(environ=environ)).provider.endpoint
    assert (found.base_url, found.key_origin) == (address, next(iter(environ)))
    with pytest.raises(MissingKeyError, match=PRESETS[provider].key_env):
        Registry(HttpClient()).resolve(f"{provider}/m", Settings(environ={**environ, found.key_origin: ""}))


def test_other_address_of_a_provider_stands_beside_its_key() -> None:
    environ = {"MOONSHOT_API_KEY": KEY, "MOONSHOT_BASE_URL": "https://api.moonshot.cn/v1"}
    found = Registry(HttpClient()).resolve("moonshot/m", Settings(environ=environ)).provider.endpoint
    assert (found.base_url, found.origin) == ("https://api.moonshot.cn/v1", "MOONSHOT_BASE_URL")
    assert found.key_origin == "MOONSHOT_API_KEY"


@pytest.mark.parametrize(
    ("provider", "names"),
    [
        ("azure", "AZURE_OPENAI_ENDPOINT"),
        ("databricks", "DATABRICKS_HOST"),
        ("bedrock", "AWS_BEDROCK_BASE_URL or AWS_REGION or AWS_DEFAULT_REGION"),
    ],
)
def test_provider_without_its_address_names_the_variables(provider: str, names: str) -> None:
    with pytest.raises(ConfigError, match=f"{provider}.*Set {names}, or give one: --base-url"):
        Registry(HttpClient()).resolve(f"{provider}/m", Settings())


def test_provider_that_has_ended_says_what_to_use_instead() -> None:
    settings = Settings(environ={"PERPLEXITY_API_KEY": KEY})
    with pytest.raises(NotWorkingError, match="openrouter/perplexity/sonar"):
        Registry(HttpClient()).resolve("perplexity/sonar", settings)
    insists = Registry(HttpClient()).resolve("perplexity/sonar", settings, allow_not_working=True)
    assert insists.provider.endpoint.base_url == "https://api.perplexity.ai"
    Registry(HttpClient()).resolve("perplexity/sonar", settings, base_url="http://gateway/v1")


# --- on the wire


async def ask(provider: AsyncProvider) -> Any:
    async with contextlib.aclosing(provider._http):
        return await provider.complete(ChatRequest(model="m", messages=(Message("user", "hi"),)))


def provider_for(name: str, settings: Settings, **given: Any) -> AsyncProvider:
    return Registry(HttpClient()).resolve(name, settings, **given).provider


async def test_key_of_azure_goes_into_its_own_header_and_the_version_along() -> None:
    with ChatServer() as server:
        environ = {"AZURE_OPENAI_ENDPOINT": f"{server.root}?api-version=2024-10-21", "AZURE_OPENAI_API_KEY": KEY}
        await ask(provider_for("azure/gpt-x", Settings(environ=environ)))
        (received,) = server.requests
    assert received.path == "/openai/deployments/gpt-x/chat/completions?api-version=2024-10-21"
    assert received.headers["api-key"] == KEY
    assert "authorization" not in received.headers


@pytest.mark.parametrize(
    ("tail", "path"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/?a=b", "/v1/chat/completions?a=b"),
        ("/v1?a=b&c=", "/v1/chat/completions?a=b&c="),
        ("/v1/models", "/v1/chat/completions"),
    ],
)
async def test_address_in_any_form_reaches_the_server(tail: str, path: str) -> None:
    with ChatServer() as server:
        await ask(provider_for("m", Settings(), base_url=server.root + tail))
        assert [received.path for received in server.requests] == [path]


async def test_anthropic_takes_a_query_and_the_path_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for tail in ("?a=b", "/v1?a=b", "/v1/messages?a=b"):
        provider = provider_for("anthropic/m", Settings(), base_url=f"http://x{tail}")
        assert provider._url("models?limit=1") == "http://x/v1/models?a=b&limit=1"  # type: ignore[attr-defined]


async def test_headers_of_the_file_are_sent_and_masked_in_what_comes_back(tmp_path: Any) -> None:
    def repeating(received: Received, attempt: int) -> Any:
        return text(f"you sent {received.headers['x-gateway-key']} and {received.headers['user-agent']}")

    path = tmp_path / "config.toml"
    with ChatServer(repeating) as server:
        path.write_text(
            f'[providers.lab]\nbase_url = "{server.url}"\napi_key = "{KEY}1"\n'
            f'[providers.lab.headers]\nX-Gateway-Key = "{KEY}2"\nUser-Agent = "mine"\nauthorization = "Basic {KEY}3"\n'
        )
        path.chmod(0o600)
        reply = await ask(provider_for("lab/m", load_settings({}, path)))
        (received,) = server.requests
    assert received.headers["x-gateway-key"] == KEY + "2"
    assert received.headers["user-agent"] == "mine"
    assert received.headers["authorization"] == f"Basic {KEY}3"
    assert reply.text == "you sent **** and mine"


@pytest.mark.parametrize("code", [401, 403])
async def test_refusal_without_a_key_says_that_none_was_sent_and_how_to_set_one(code: int) -> None:
    with ChatServer(lambda *_: status(code)) as server:
        settings = Settings(environ={"OPENAI_API_KEY": KEY})
        with pytest.raises(Exception, match=f"No key was sent to {server.root}; the one in OPENAI_API_KEY") as caught:
            await ask(provider_for("openai/m", settings, base_url=server.url))
        assert "refused the key" not in str(caught.value)
        assert "AICHAT_API_KEY together with AICHAT_BASE_URL" in str(caught.value)
        sent = Settings(environ={"AICHAT_API_KEY": KEY, "AICHAT_BASE_URL": server.url})
        with pytest.raises(Exception, match=r"Check the key|may not do this") as caught:
            await ask(provider_for("openai/m", sent, base_url=server.url))
        assert "No key was sent" not in str(caught.value)


async def test_key_set_for_this_machine_is_sent_under_its_other_names() -> None:
    with ChatServer() as server:
        settings = Settings(environ={"LLAMACPP_API_KEY": KEY})
        await ask(provider_for("llamacpp/m", settings, base_url=server.url))
        assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"


async def test_key_of_a_provider_elsewhere_is_not_sent_to_this_machine() -> None:
    with ChatServer(lambda *_: status(401)) as server:
        with pytest.raises(AuthenticationError):
            await ask(provider_for("groq/m", Settings(environ={"GROQ_API_KEY": KEY}), base_url=server.url))
        assert "authorization" not in server.requests[-1].headers
