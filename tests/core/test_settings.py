import os
from pathlib import Path

import pytest

from aichat_magic.core.config_file import ProviderSettings
from aichat_magic.core.endpoints import Preset
from aichat_magic.core.errors import ConfigError, MissingKeyError, OptionError
from aichat_magic.core.options import CallOptions
from aichat_magic.core.secrets import Secret
from aichat_magic.core.settings import (
    Settings,
    changed,
    effective_settings,
    environment_names,
    load_settings,
)

OPENAI = Preset(base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY", needs_key=True)
CANARY = "sk-canary"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_defaults_hold_without_file_and_environment(config: Path) -> None:
    settings = load_settings({}, config)
    assert settings.model == "local/smollm2-135m"
    assert settings.options.sent() == {}


def test_environment_wins_over_the_file(config: Path) -> None:
    write(config, 'model = "a/b"\ntimeout_s = 5\n[options]\ntemperature = 0.5\nstop = ["x"]\n')
    settings = load_settings({"AICHAT_MODEL": "c/d", "AICHAT_TEMPERATURE": "0"}, config)
    assert (settings.model, settings.timeout_s) == ("c/d", 5)
    assert settings.options.sent() == {"temperature": 0, "stop": ("x",)}


def test_set_value_wins_over_the_environment_and_none_takes_it_back(config: Path) -> None:
    settings = load_settings({"AICHAT_MODEL": "c/d", "AICHAT_SEED": "3"}, config)
    assert changed(settings, "model", "e/f").model == "e/f"
    assert changed(settings, "seed", "none").options.seed is None
    assert changed(settings, "max-tokens", "7").options.max_tokens == 7
    assert changed(settings, "timeout", "7").timeout_s == 7


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("modle = 'x'", "'modle'.*'model'"),
        ("model = 3", "must be a text"),
        ("timeout_s = true", "must be a number"),
        ("[options]\ntemprature = 1", "'temprature'.*'temperature'"),
        ("options = 3", "must be a table"),
        ("[providers.x]\nkey = 'a'", "Unknown setting 'key'"),
        ("[providers.x]\nbase_url = 'ftp://x'", "must begin with"),
        ("[providers.x]\nbase_url = 3", "must be a text"),
        ("= no toml", "is not TOML"),
    ],
)
def test_wrong_file_is_a_clear_error(config: Path, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_settings({}, write(config, text))


@pytest.mark.parametrize(("name", "value"), [("AICHAT_TIMEOUT_S", "soon"), ("AICHAT_SEED", "1.5")])
def test_wrong_environment_is_a_clear_error(config: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_settings({name: value}, config)


def test_setting_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'temperature'"):
        changed(Settings(), "temperatur", "1")


def test_setting_a_value_out_of_range_is_refused() -> None:
    with pytest.raises(OptionError, match="temperature"):
        changed(Settings(), "temperature", "3")


def test_key_goes_to_its_own_host() -> None:
    settings = Settings(environ={"OPENAI_API_KEY": CANARY})
    assert settings.endpoint("openai", OPENAI).key == Secret(CANARY)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://evil.example/v1",
        "https://api.openai.com.evil.example/v1",
        "http://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "http://localhost:1234/v1",
    ],
)
def test_key_does_not_go_to_another_host(base_url: str) -> None:
    settings = Settings(environ={"OPENAI_API_KEY": CANARY})
    assert settings.endpoint("openai", OPENAI, base_url=base_url).key is None


def test_key_beside_an_address_in_the_same_place_belongs_to_it(config: Path) -> None:
    environ = {"AICHAT_API_KEY": CANARY, "AICHAT_BASE_URL": "http://gpu:8000/v1"}
    endpoint = Settings(environ=environ).endpoint("openai", OPENAI, base_url="http://gpu:8000/v1")
    assert endpoint.key == Secret(CANARY)
    write(config, f'[providers.openai]\nbase_url = "http://gpu/v1"\napi_key = "{CANARY}"\n')
    settings = load_settings({}, config)
    assert settings.endpoint("openai", OPENAI).key == Secret(CANARY)
    assert settings.endpoint("openai", OPENAI, base_url="http://other/v1").key is None


def test_missing_key_names_the_variable_to_set() -> None:
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        Settings().endpoint("openai", OPENAI)


def test_key_never_shows_in_settings(config: Path) -> None:
    write(config, f'[providers.openai]\napi_key = "{CANARY}"\n')
    settings = load_settings({"OPENAI_API_KEY": CANARY + "2"}, config)
    endpoint = settings.endpoint("openai", OPENAI)
    assert CANARY not in repr(settings) + repr(endpoint) + str(endpoint)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_file_with_a_key_that_others_can_read_is_warned_about(config: Path) -> None:
    write(config, f'[providers.openai]\napi_key = "{CANARY}"\n', mode=0o644)
    with pytest.warns(UserWarning, match="chmod 600") as caught:
        load_settings({}, config)
    assert CANARY not in str(caught[0].message)


def test_password_of_a_proxy_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        changed(Settings(), "proxy", f"htp://user:{CANARY}@proxy:80")
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout", "-5"), ("timeout", "0"), ("timeout", "nan"), ("timeout", "inf"), ("max_retries", "-3"),
     ("max_history_tokens", "-5")],
)  # fmt: skip
def test_setting_outside_its_range_is_refused(name: str, value: str) -> None:
    with pytest.raises(OptionError, match=name):
        changed(Settings(), name, value)


def test_alias_that_is_no_text_is_refused(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"fast = 5 in \[aliases\]"):
        load_settings({}, write(config, "[aliases]\nfast = 5\n"))


@pytest.mark.parametrize("name", ["model", "base_url", "proxy", "system", "stop"])
def test_keyword_of_the_wrong_type_is_named(name: str) -> None:
    with pytest.raises(OptionError, match=f"{name} must be"):
        CallOptions.from_keywords({name: 5})


@pytest.mark.parametrize(
    ("environ", "text", "match"),
    [
        (
            {"AICHAT_TEMPERATURE": "7"},
            "",
            r"temperature must be between 0 and 2, not 7.0. It is set in AICHAT_TEMPERATURE",
        ),
        ({"AICHAT_TIMEOUT_S": "0"}, "", r"more than 0 seconds.*AICHAT_TIMEOUT_S"),
        ({}, "max_retries = -1", r"max_retries must be 0 or more.*config\.toml"),
        ({}, "[options]\ntop_p = 3", r"top_p must be.*config\.toml"),
    ],
)
def test_value_out_of_range_is_told_with_its_place(
    config: Path, environ: dict[str, str], text: str, match: str
) -> None:
    write(config, text)
    with pytest.raises(ConfigError, match=match):
        load_settings(environ, config)


def test_missing_key_tells_the_variable_the_file_and_its_lines() -> None:
    settings = Settings(environ={"AICHAT_CONFIG": "/home/me/config.toml"})
    with pytest.raises(MissingKeyError) as caught:
        settings.endpoint("openai", OPENAI)
    assert str(caught.value).splitlines() == [
        "No key for provider 'openai'. Enter it with %aichat key openai, set OPENAI_API_KEY in the environment, or "
        "write into /home/me/config.toml:",
        "    [providers.openai]",
        '    api_key = "..."',
        "%aichat providers shows which have a key; the embedded model needs none.",
    ]


def test_settings_are_listed_with_their_origin(config: Path) -> None:
    write(config, 'model = "a/b"\nproxy = "http://u:pw@px:1"\n[options]\nstop = ["x", "y"]\n')
    settings = load_settings({"AICHAT_TEMPERATURE": "0.5"}, config)
    rows = {name: (value, origin) for name, value, origin in effective_settings(changed(settings, "max-tokens", "9"))}
    assert rows["model"] == ("a/b", str(config))
    assert rows["temperature"] == ("0.5", "AICHAT_TEMPERATURE")
    assert rows["max_tokens"] == ("9", "this session")
    assert rows["stop"] == ("x | y", str(config))
    assert rows["proxy"] == ("****", str(config))
    assert rows["timeout"] == ("600.0", "default")
    assert rows["seed"] == ("", "")
    assert rows["keep_history"] == ("true", "default")


def test_variables_that_are_read_are_known_by_name() -> None:
    assert {"AICHAT_MODEL", "AICHAT_TIMEOUT_S", "AICHAT_API_KEY", "AICHAT_STORE"} <= set(environment_names())


def test_key_is_told_by_its_place() -> None:
    mine = {"openai": ProviderSettings(key=Secret(CANARY))}
    assert Settings(providers=mine).endpoint("openai", OPENAI).key_origin == "config.toml"
    assert Settings(environ={"OPENAI_API_KEY": CANARY}).endpoint("openai", OPENAI).key_origin == "OPENAI_API_KEY"
    beside = {"AICHAT_API_KEY": CANARY, "AICHAT_BASE_URL": "https://api.openai.com/v1"}
    assert Settings(environ=beside).endpoint("openai", OPENAI).key_origin == "AICHAT_API_KEY"


@pytest.mark.parametrize("base_url", ["http://[::1", "http://name.example:99999999", "name.example/v1"])
def test_base_url_of_the_environment_that_cannot_be_used_is_an_error_that_names_it(base_url: str) -> None:
    settings = load_settings({"AICHAT_API_KEY": "k", "AICHAT_BASE_URL": base_url})
    with pytest.raises(ConfigError, match="AICHAT_BASE_URL"):
        settings.endpoint("openai", OPENAI)


def test_options_of_a_vendor_and_levels_come_from_file_and_environment(config: Path) -> None:
    write(
        config, '[options]\nreasoning = "none"\ntier = "flex"\nstop = "END"\n[options.extra]\ntop_k = 40\nmin_p = 0.1\n'
    )
    environ = {"AICHAT_REASONING": "low", "AICHAT_TIER": "flex,auto", "AICHAT_OPTIONS": '{"min_p": 0.2}'}
    settings = load_settings({}, config)
    assert (settings.options.reasoning, settings.options.tier, settings.options.stop) == ("none", "flex", ("END",))
    settings = load_settings(environ, config)
    assert (settings.options.reasoning, settings.options.tier) == ("low", "flex,auto")
    assert settings.options.extra_options == {"top_k": 40, "min_p": 0.2}
    rows = {name: (value, origin) for name, value, origin in effective_settings(settings)}
    assert rows["options"] == ('{"min_p":0.2,"top_k":40}', "AICHAT_OPTIONS")
    assert rows["reasoning"] == ("low", "AICHAT_REASONING")
    assert rows["strict_options"] == ("false", "default")
    assert {"AICHAT_REASONING", "AICHAT_TIER", "AICHAT_OPTIONS", "AICHAT_STRICT_OPTIONS"} <= set(environment_names())


@pytest.mark.parametrize(
    ("environ", "text", "match"),
    [
        ({}, '[options]\nreasoning = "hihg"', r"reasoning must be one of .*config\.toml"),
        ({"AICHAT_TIER": "cheap"}, "", "tier must be one of .*AICHAT_TIER"),
        ({}, "[options]\ntop_k = 40", r"Unknown option 'top_k'.*\[options\.extra\]"),
        ({}, '[options.extra]\nmodel = "x"', r"'model' cannot be set.*config\.toml"),
        ({}, "[options]\nextra = 3", r"options must be a dict.*config\.toml"),
        ({}, "[options.extra]\nx = nan", r"x in options must be JSON.*config\.toml"),
        ({}, "[options]\nstop = 3", r"stop must be a text or a list of texts, not 3.*config\.toml"),
        ({}, "[options]\nstop = ['a', '']", r"stop must be a text or a list.*config\.toml"),
        ({"AICHAT_OPTIONS": "top_k"}, "", "NAME=VALUE.*AICHAT_OPTIONS"),
        ({}, "strict_options = 1", "strict_options = 1 in .* must be true or false"),
    ],
)
def test_wrong_option_is_told_with_its_place(config: Path, environ: dict[str, str], text: str, match: str) -> None:
    write(config, text)
    with pytest.raises(ConfigError, match=match):
        load_settings(environ, config)


def test_option_is_unset_wherever_it_was_set(config: Path) -> None:
    write(config, '[options]\ntemperature = 0.5\nseed = "unset"\n[options.extra]\ntop_k = 40\n')
    settings = load_settings({}, config)
    assert settings.options.unset == ("seed",)
    unset = changed(settings, "temperature", "unset")
    assert (unset.options.temperature, unset.options.unset) == (None, ("seed", "temperature"))
    assert ("temperature", "unset", "this session") in effective_settings(unset)
    assert changed(unset, "temperature", "0.7").options.unset == ("seed",)
    assert load_settings({"AICHAT_TEMPERATURE": "unset"}, config).options.sent() == {"extra": '{"top_k":40}'}
    assert load_settings({"AICHAT_OPTIONS": "unset"}, config).options.extra is None
    assert changed(settings, "options", "top_k=unset").options.extra is None
    assert changed(settings, "options", "unset").options.extra is None
    assert changed(settings, "options", '{"min_p": 1}').options.extra_options == {"top_k": 40, "min_p": 1}
    assert changed(settings, "stop", "END").options.stop == ("END",)


def test_none_is_a_level_of_reasoning_and_default_undoes_everything() -> None:
    settings = changed(Settings(), "reasoning", "none")
    assert settings.options.reasoning == "none"
    assert changed(settings, "reasoning", "default").options.reasoning is None
    for name in ("temperature", "stop", "model", "timeout", "options", "tier", "strict_options", "proxy"):
        assert changed(Settings(), name, "default") == Settings()
        assert changed(Settings(), name, "none") == Settings()


def test_alias_with_the_name_of_a_word_is_still_an_alias() -> None:
    settings = Settings(aliases={"default": "a/b", "none": "c/d"})
    assert changed(settings, "model", "default").model == "default"
    assert changed(settings, "model", "none").model == "none"
