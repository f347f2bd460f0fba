"""Which address a provider has, where it comes from, and which key and headers go there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aichat_magic.core.config_file import ProviderSettings
from aichat_magic.core.endpoints import Preset, is_token_host
from aichat_magic.core.errors import AichatError, ConfigError, MissingKeyError
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import Settings, changed, load_settings
from aichat_magic.core.urls import api_url, base_url_of, is_same_server

KEY = "sk-canary-endpoints"
CLOUD = Preset(base_url="https://api.cloud.example/v1", key_env="CLOUD_API_KEY", needs_key=True)
HERE = Preset(base_url="http://localhost:8080/v1", key_env="HERE_API_KEY")


def endpoint(preset: Preset, provider: str = "cloud", given: str = "", **settings: Any) -> Any:
    return Settings(**settings).endpoint(provider, preset, base_url=given)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://gpu:8000/v1", "http://gpu:8000/v1/chat/completions"),
        (" http://gpu:8000/v1/ ", "http://gpu:8000/v1/chat/completions"),
        ("http://gpu:8000/v1/chat/completions", "http://gpu:8000/v1/chat/completions"),
        ("http://gpu:8000/v1/chat/completions/", "http://gpu:8000/v1/chat/completions"),
        ("http://gpu:8000/V1/Chat/Completions", "http://gpu:8000/V1/chat/completions"),
        ("http://gpu:8000/v1/completions", "http://gpu:8000/v1/chat/completions"),
        ("http://gpu:8000/v1/models", "http://gpu:8000/v1/chat/completions"),
        ("http://gpu:8000/v1/embeddings#x", "http://gpu:8000/v1/chat/completions"),
        ("https://x.services.ai.azure.com/models", "https://x.services.ai.azure.com/models/chat/completions"),
        ("http://gpu:8000", "http://gpu:8000/chat/completions"),
        ("http://gpu:8000/?api-version=1", "http://gpu:8000/chat/completions?api-version=1"),
        (
            "https://r.example/d/gpt/chat/completions?api-version=2024-10-21&x=",
            "https://r.example/d/gpt/chat/completions?api-version=2024-10-21&x=",
        ),
    ],
)
def test_address_may_end_with_a_call_and_carry_a_query(given: str, url: str) -> None:
    assert api_url(base_url_of(given), "chat/completions") == url


def test_query_of_a_path_follows_that_of_the_address() -> None:
    assert api_url("http://x/v1?a=1", "models?limit=5") == "http://x/v1/models?a=1&limit=5"


@pytest.mark.parametrize("name", ["key", "api_key", "API-Key", "code", "sig", "subscription-key", "access_token"])
def test_key_in_the_query_of_an_address_is_refused_and_not_shown(name: str) -> None:
    with pytest.raises(ConfigError, match=r"\[providers\.NAME\.headers\]") as caught:
        base_url_of(f"https://x.example/v1?{name}={KEY}")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", ["api-version", "tokens", "keyboard", "encode"])
def test_other_parameters_stay(name: str) -> None:
    assert base_url_of(f"https://x.example/v1?{name}=1").endswith(f"?{name}=1")


def test_address_is_told_with_the_place_it_comes_from() -> None:
    own = {"cloud": ProviderSettings(base_url="https://table.example/v1")}
    beside = {"CLOUD_BASE_URL": "https://beside.example/v1"}
    host = Preset(base_url="http://localhost:1/v1", address_env="CLOUD_HOST")
    named = {"CLOUD_HOST": "https://host.example"}
    assert endpoint(CLOUD, given="http://flag/v1", providers=own).origin == "--base-url"
    assert endpoint(HERE, providers=own, environ=beside).origin == "[providers.cloud] in config.toml"
    assert endpoint(HERE, environ=beside).origin == "CLOUD_BASE_URL"
    assert endpoint(host, environ={**beside, **named}).origin == "CLOUD_BASE_URL"
    assert endpoint(host, environ=named).base_url == "https://host.example"
    assert endpoint(host, environ=named).origin == "CLOUD_HOST"
    assert endpoint(HERE).origin == "built in"


def test_address_is_filled_from_the_environment_and_with_the_model() -> None:
    preset = Preset(base_url="https://{ZONE|DEFAULT_ZONE}.cloud.example/{model}/v1")
    settings = Settings(environ={"DEFAULT_ZONE": "eu-1"})
    found = settings.endpoint("cloud", preset, model="meta/llama 3")
    assert (found.base_url, found.origin) == ("https://eu-1.cloud.example/meta%2Fllama%203/v1", "DEFAULT_ZONE")
    first = Settings(environ={"DEFAULT_ZONE": "eu-1", "ZONE": "us-2"})
    assert first.endpoint("cloud", preset, model="m").base_url.startswith("https://us-2.")
    with pytest.raises(ConfigError, match="Set ZONE or DEFAULT_ZONE, or give one: --base-url"):
        Settings(environ={"ZONE": " "}).endpoint("cloud", preset)


def test_variable_with_a_wrong_address_is_named() -> None:
    with pytest.raises(ConfigError, match=r"CLOUD_BASE_URL.*must begin with http"):
        endpoint(CLOUD, environ={"CLOUD_BASE_URL": "cloud.example/v1"})


# --- keys and their servers


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8080/v1", "http://127.0.0.1:8080/v1", "http://127.0.0.1:9999", "http://127.8.4.1/v1",
        "http://[::1]:8080/v1", "http://gpu.localhost:1/v1", "http://LOCALHOST.:8080", "https://localhost:8443/v1",
        "http://0.0.0.0:8080", "http://[::ffff:127.0.0.1]:8080",
    ],
)  # fmt: skip
def test_names_of_this_machine_are_one_server_to_a_key_for_it(url: str) -> None:
    assert endpoint(HERE, "here", url, environ={"HERE_API_KEY": KEY}).key == Secret(KEY)
    general = {"AICHAT_API_KEY": KEY, "AICHAT_BASE_URL": "http://127.0.0.1:8000/v1"}
    assert endpoint(HERE, "here", url, environ=general).key == Secret(KEY)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost.evil.example:8080/v1", "http://127.0.0.1.nip.io:8080", "http://notlocalhost:8080",
        "http://192.168.0.1:8080", "http://[fe80::1]:8080", "http://[::ffff:10.0.0.1]:8080", "http://10.127.0.1:8080",
    ],
)  # fmt: skip
def test_key_for_this_machine_stays_on_it(url: str) -> None:
    assert endpoint(HERE, "here", url, environ={"HERE_API_KEY": KEY}).key is None


@pytest.mark.parametrize("url", ["http://localhost:8080/v1", "http://127.0.0.1/v1", "https://cloud.localhost/v1"])
def test_key_for_a_server_elsewhere_does_not_go_to_this_machine(url: str) -> None:
    assert endpoint(CLOUD, given=url, environ={"CLOUD_API_KEY": KEY}).key is None


def test_address_that_is_none_is_the_same_as_no_other() -> None:
    assert not is_same_server("http://localhost:1", "http://name:99999999")


def test_key_that_is_held_back_is_told_with_its_server_and_the_variable_to_set() -> None:
    found = endpoint(CLOUD, given="http://gpu:8000/v1", environ={"CLOUD_API_KEY": KEY})
    assert found.no_key == (
        "No key was sent to http://gpu:8000; the one in CLOUD_API_KEY belongs to https://api.cloud.example:443. "
        "For this server, set AICHAT_API_KEY together with AICHAT_BASE_URL, or: %aichat key cloud"
    )
    assert KEY not in found.no_key
    local = endpoint(HERE, "here", "http://127.0.0.1:8081/v1")
    assert "set HERE_API_KEY" in local.no_key
    assert endpoint(HERE, "here", environ={"HERE_API_KEY": KEY}).no_key == ""


def test_further_variables_of_a_key_come_after_the_first() -> None:
    preset = Preset(base_url="https://g.example", key_env="G_KEY", other_key_envs=("GOOGLE_KEY",), needs_key=True)
    found = endpoint(preset, environ={"GOOGLE_KEY": KEY})
    assert (found.key, found.key_origin) == (Secret(KEY), "GOOGLE_KEY")
    assert endpoint(preset, environ={"GOOGLE_KEY": "other", "G_KEY": KEY}).key_origin == "G_KEY"
    mine = {"cloud": ProviderSettings(key_env="MINE")}
    with pytest.raises(MissingKeyError, match="MINE"):
        endpoint(preset, environ={"GOOGLE_KEY": KEY}, providers=mine)


def test_address_and_key_of_one_providers_variables_belong_together() -> None:
    preset = Preset(base_url="", key_env="R_KEY", address_env="R_ENDPOINT", needs_key=True)
    environ = {"R_ENDPOINT": "https://one.example/v1", "R_KEY": KEY}
    assert endpoint(preset, environ=environ).key == Secret(KEY)
    assert endpoint(preset, given="https://two.example/v1", environ=environ).key is None


def test_missing_key_can_be_entered() -> None:
    with pytest.raises(MissingKeyError, match="%aichat key cloud"):
        endpoint(CLOUD)


# --- headers of the user's file


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_headers_of_a_provider_go_to_its_own_server_only(tmp_path: Path) -> None:
    path = file(tmp_path, f'[providers.cloud.headers]\nX-Org = "{KEY}"\n')
    settings = load_settings({"CLOUD_API_KEY": "k"}, path)
    assert settings.endpoint("cloud", CLOUD).headers == (("X-Org", Secret(KEY)),)
    assert settings.endpoint("cloud", CLOUD, base_url="https://else.example/v1").headers == ()
    assert KEY not in repr(settings) + repr(settings.endpoint("cloud", CLOUD))


def test_headers_beside_an_address_go_to_it(tmp_path: Path) -> None:
    path = file(tmp_path, '[providers.lab]\nbase_url = "http://lab/v1"\n[providers.lab.headers]\nX-A = "1"\n')
    settings = load_settings({}, path)
    preset = Preset(base_url="http://lab/v1")
    assert [name for name, _ in settings.endpoint("lab", preset).headers] == ["X-A"]
    assert settings.endpoint("lab", preset, base_url="http://else/v1").headers == ()


def test_header_that_carries_the_key_stands_in_for_one(tmp_path: Path) -> None:
    path = file(tmp_path, f'[providers.cloud.headers]\nAuthorization = "Basic {KEY}"\n')
    assert load_settings({}, path).endpoint("cloud", CLOUD).no_key == ""


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (f'X-A = "{KEY}\\r\\nX-B: 1"', "holds a line end"),
        (f'X-A = "{KEY}\\u0000"', "holds a line end"),
        (f'X-A = "{KEY}é"', "another character"),
        ('X-A = ""', "is empty"),
        ("X-A = 3", "must be a text"),
        (f'"X-A\\r\\nX-B" = "{KEY}"', "no name that a header can have"),
        (f'"X A" = "{KEY}"', "no name that a header can have"),
        (f'"" = "{KEY}"', "no name that a header can have"),
        (f'Host = "{KEY}"', "each request has its own"),
        (f'content-length = "{KEY}"', "each request has its own"),
        (f'Transfer-Encoding = "{KEY}"', "each request has its own"),
    ],
)
def test_header_that_would_be_two_or_frame_a_request_is_refused_and_not_shown(
    tmp_path: Path, line: str, match: str
) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        load_settings({}, file(tmp_path, f"[providers.cloud.headers]\n{line}\n"))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"), [("headers = 3", "must be a table"), ("keyring = 'yes'", "must be true or false")]
)
def test_entry_of_the_wrong_type_is_told(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_settings({}, file(tmp_path, f"[providers.cloud]\n{text}\n"))


# --- one rule for a base URL


SESSION, VARIABLE, FILE = "this session", "AICHAT_X", "/home/me/config.toml"


@pytest.mark.parametrize(
    ("provider", "model_from", "url_from", "is_used"),
    [
        ("openai", SESSION, FILE, True),
        ("vllm", FILE, FILE, True),
        ("vllm", VARIABLE, VARIABLE, True),
        ("vllm", SESSION, SESSION, True),
        ("vllm", FILE, VARIABLE, True),
        ("vllm", VARIABLE, SESSION, True),
        ("vllm", VARIABLE, FILE, False),
        ("vllm", SESSION, VARIABLE, False),
        ("vllm", SESSION, FILE, False),
        ("anthropic", SESSION, SESSION, False),
        ("anthropic", FILE, SESSION, False),
    ],
)
def test_base_url_is_for_openai_and_for_the_model_that_was_not_set_nearer(
    provider: str, model_from: str, url_from: str, is_used: bool
) -> None:
    settings = Settings(
        model="vllm/qwen", base_url="http://gpu/v1", origins={"model": model_from, "base_url": url_from}
    )
    assert settings.configured_address(provider) == (("http://gpu/v1", url_from) if is_used else ("", ""))


def test_with_a_base_url_and_no_model_nothing_is_meant_for_the_embedded_one() -> None:
    here = Settings(base_url="http://gpu/v1")
    assert here.model_for() == "openai"
    assert Settings().model_for("http://gpu/v1") == "openai"
    assert Settings().model_for() == Settings().model
    assert changed(here, "model", Settings().model).model_for() == Settings().model


# --- tokens


def test_token_goes_by_https_to_hosts_of_its_maker_only() -> None:
    preset = Preset(base_url="", token_scope="s", token_hosts=(".cloud.example",))
    assert is_token_host("https://a.cloud.example/v1", preset)
    for url in (
        "http://a.cloud.example",
        "https://cloud.example.evil.example",
        "https://evilcloud.example",
        "https://x",
    ):
        assert not is_token_host(url, preset)
    assert not is_token_host("https://a.cloud.example", Preset(base_url="", token_hosts=(".cloud.example",)))


def test_every_error_of_the_search_is_ours() -> None:
    for text in ("", "x", "http://", "http://[", "http://a:b", "://", "http://a b", "http://\x00"):
        for environ in ({"CLOUD_BASE_URL": text}, {"AICHAT_BASE_URL": text, "AICHAT_API_KEY": "k"}):
            try:
                endpoint(CLOUD, given="http://x/v1", environ={"CLOUD_API_KEY": "k", **environ})
            except AichatError:
                pass
