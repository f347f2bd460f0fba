from importlib.metadata import EntryPoint

import pytest

from aichat_magic.core.config_file import ProviderSettings
from aichat_magic.core.errors import (
    AichatError,
    ConfigError,
    MissingKeyError,
    NotWorkingError,
    UnexpectedError,
    UnknownNameError,
)
from aichat_magic.core.settings import Settings
from aichat_magic.http.client import HttpClient
from aichat_magic.providers.registry import Registry


@pytest.fixture
def registry() -> Registry:
    return Registry(HttpClient())


def test_name_is_provider_and_model(registry: Registry) -> None:
    route = registry.resolve("ollama/llama3.2", Settings())
    assert route.name == "ollama/llama3.2"
    assert route.provider.endpoint.base_url == "http://localhost:11434/v1"


def test_model_may_hold_slashes(registry: Registry) -> None:
    route = registry.resolve("openrouter/meta-llama/llama-3", Settings(environ={"OPENROUTER_API_KEY": "k"}))
    assert route.model == "meta-llama/llama-3"


def test_alias_stands_for_a_model(registry: Registry) -> None:
    assert registry.resolve("fast", Settings(aliases={"fast": "echo/echo"})).name == "echo/echo"


def test_provider_alone_means_its_default_model(registry: Registry) -> None:
    assert registry.resolve("echo", Settings()).model == "echo"


def test_provider_without_a_default_model_says_how_to_go_on(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"%aichat models ollama"):
        registry.resolve("ollama", Settings())


def test_unknown_provider_names_the_nearest(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"'opena'.*Did you mean 'openai'"):
        registry.resolve("opena/gpt-5-mini", Settings())


def test_model_without_a_provider_says_how_to_write_it(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"openai/gpt-5-mini"):
        registry.resolve("gpt-5-mini", Settings())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpt-5-mini", "openai/gpt-5-mini"),
        ("claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("gemini-3-pro", "gemini/gemini-3-pro"),
        ("mistral-large", "mistral/mistral-large"),
        ("smollm2-135m", "local/smollm2-135m"),
        ("smart-model", "lab/smart-modell"),
        ("fsat", "fast"),
        ("opena", "openai"),
        ("mistrl", "mistral"),
    ],
)
def test_model_without_a_provider_is_told_with_the_one_that_is_meant(registry: Registry, name: str, meant: str) -> None:
    settings = Settings(aliases={"fast": "groq/llama", "clever": "lab/smart-modell"})
    with pytest.raises(UnknownNameError, match=f"Did you mean '{meant}'"):
        registry.resolve(name, settings)


def test_with_an_address_any_name_is_a_model_of_that_server(registry: Registry) -> None:
    route = registry.resolve("meta-llama/x", Settings(), base_url="http://gpu:8000/v1/")
    assert (route.provider.name, route.model) == ("openai", "meta-llama/x")
    assert route.provider.endpoint.base_url == "http://gpu:8000/v1"


def test_address_for_a_provider_without_a_server_is_refused(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"no server"):
        registry.resolve("echo/echo", Settings(), base_url="http://gpu:8000/v1")


def test_configured_address_is_for_the_configured_model_only(registry: Registry) -> None:
    settings = Settings(model="vllm/qwen", base_url="http://gpu:8000/v1")
    assert registry.resolve("vllm/qwen", settings).provider.endpoint.base_url == "http://gpu:8000/v1"
    assert registry.resolve("ollama/x", settings).provider.endpoint.base_url == "http://localhost:11434/v1"


def test_configured_address_is_for_the_model_that_an_alias_means(registry: Registry) -> None:
    settings = Settings(model="fast", aliases={"fast": " vllm/qwen"}, base_url="http://gpu:8000/v1")
    assert registry.resolve("fast", settings).provider.endpoint.base_url == "http://gpu:8000/v1"
    assert registry.resolve("ollama/x", settings).provider.endpoint.base_url == "http://localhost:11434/v1"


@pytest.mark.parametrize("name", ["qwen3", "Qwen/Qwen3-8B", "opena/x", "openai/qwen3", "openai/Qwen/Qwen3-8B"])
def test_with_a_base_url_set_any_name_without_a_provider_goes_there(registry: Registry, name: str) -> None:
    settings = Settings(base_url="http://gpu:8000/v1", origins={"base_url": "AICHAT_BASE_URL"})
    route = registry.resolve(name, settings)
    assert (route.provider.name, route.model) == ("openai", name.removeprefix("openai/"))
    assert route.provider.endpoint.base_url == "http://gpu:8000/v1"
    assert route.provider.endpoint.origin == "AICHAT_BASE_URL"


@pytest.mark.parametrize("name", ["llamacpp/x", "anthropic/x", "vllm/x", "ollama/x"])
@pytest.mark.parametrize("chosen", [True, False])
def test_prefix_of_another_provider_means_its_own_server(registry: Registry, name: str, chosen: bool) -> None:
    environ = {"ANTHROPIC_API_KEY": "k"}
    origins = {"base_url": "AICHAT_BASE_URL"} | ({"model": "this session"} if chosen else {})
    model = name if chosen else "local/smollm2-135m"
    settings = Settings(model=model, base_url="http://gpu:8000/v1", environ=environ, origins=origins)
    endpoint = registry.resolve(name, settings).provider.endpoint
    assert endpoint.base_url != "http://gpu:8000/v1"
    assert endpoint.origin == "built in"


def test_name_of_a_provider_may_be_a_model_of_ones_own_server(registry: Registry) -> None:
    route = registry.resolve("mistral", Settings(), base_url="http://gpu:8000/v1")
    assert (route.name, route.provider.endpoint.base_url) == ("openai/mistral", "http://gpu:8000/v1")
    mine = {"lab": ProviderSettings(base_url="http://lab/v1", default_model="m")}
    settings = Settings(base_url="http://gpu:8000/v1", providers=mine)
    assert registry.resolve("mistral", settings).name == "openai/mistral"
    assert registry.resolve("lab", settings).provider.endpoint.base_url == "http://lab/v1"


def test_address_without_a_model_asks_for_one_and_not_the_embedded_model(registry: Registry) -> None:
    settings = Settings(base_url="http://gpu:8000/v1")
    with pytest.raises(ConfigError, match=r"Which model of the server at http://gpu:8000/v1\?.*%aichat models"):
        registry.resolve(settings.model_for(), settings)
    assert registry.resolve("local/smollm2-135m", settings).provider.name == "local"


def test_provider_of_the_users_file_speaks_openai(registry: Registry) -> None:
    settings = Settings(providers={"lab": ProviderSettings(base_url="http://lab:8000/v1", default_model="m")})
    route = registry.resolve("lab", settings)
    assert (route.name, route.provider.endpoint.base_url) == ("lab/m", "http://lab:8000/v1")
    assert "lab" in registry.names(settings)


def test_provider_that_does_not_work_is_refused_in_one_line_with_the_way_on(registry: Registry) -> None:
    with pytest.raises(NotWorkingError, match=r"--allow-not-working") as caught:
        registry.resolve("aichat/gpt-3.5-turbo", Settings())
    assert "\n" not in str(caught.value)
    assert registry.resolve("aichat/gpt-3.5-turbo", Settings(), allow_not_working=True).model == "gpt-3.5-turbo"


def test_provider_without_its_key_is_refused(registry: Registry) -> None:
    with pytest.raises(MissingKeyError, match=r"GROQ_API_KEY"):
        registry.resolve("groq/x", Settings())


@pytest.mark.parametrize("value", ["no_such_module:X", "json:dumps", "json:nothing"])
def test_broken_entry_point_is_one_clear_error(value: str) -> None:
    entry = EntryPoint("broken", value, "aichat_magic.providers")
    with pytest.raises(UnexpectedError, match=r"'broken'") as caught:
        Registry(HttpClient(), lambda: [entry]).resolve("broken/x", Settings())
    assert caught.value.__context__ is None


def test_every_error_of_the_registry_is_ours(registry: Registry) -> None:
    for name in ("", "/", "//", "x/", "/x", "{f()}", "a" * 10_000):
        with pytest.raises(AichatError) as caught:
            registry.resolve(name, Settings())
        assert len(str(caught.value)) < 500
