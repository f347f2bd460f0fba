"""Settings, merged from the session (`%config`, `%aichat set`), the environment, the TOML file and the defaults."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..text.words import did_you_mean
from .config_file import SETTING_TYPES, ProviderSettings, converted, price_from, provider_settings, read_config
from .endpoints import Endpoint, EndpointSearch, Preset
from .errors import ConfigError, OptionError
from .keys import KeyRing
from .options import OPTION_NAMES, OPTION_TYPES, UNSET, Options, options_from
from .prices import Price
from .secrets import Environment, Secret
from .urls import base_url_of, checked_proxy

DEFAULT_MODEL = "local/smollm2-135m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, merged.

    Attributes:
        model: ``provider/model``, or an alias.
        base_url: Address of the user's own server; `configured_address` says for which models. Empty: none.
        proxy: Proxy for all requests; None: as the environment says.
        system: System message of new conversations; empty: none.
        options: Sampling settings for every request.
        timeout_s: Longest time of one attempt, in seconds.
        max_history_tokens: Budget of the history that is sent, in tokens as estimated, >= 0.
        max_history_images: Number of turns before the prompt whose images are sent again, >= 0.
        max_retries: How often one request is sent again, >= 0.
        keep_history: Whether conversations are kept in a file, to survive a restart.
        strict_options: Whether an option that the server refuses is an error.
        aliases: The user's own names for models.
        providers: The tables ``[providers.NAME]`` of the file.
        prices: The user's own prices, by ``provider/model``.
        environ: The environment, for keys.
        origins: By name, where each value comes from that is not a default: a variable, the file, this session.
        keys: The keys that were entered in this session, or saved in the system's keyring.
    """

    model: str = DEFAULT_MODEL
    base_url: str = ""
    proxy: Secret | None = None
    system: str = ""
    options: Options = field(default_factory=Options)
    timeout_s: float = 600.0
    max_history_tokens: int = 16_000
    max_history_images: int = 1
    max_retries: int = 4
    keep_history: bool = True
    strict_options: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    keys: KeyRing = field(default_factory=KeyRing, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every range, and wrap the environment so that it never prints.

        Raises:
            OptionError: A value is outside its range.
        """
        object.__setattr__(self, "environ", Environment(self.environ))
        if not 0 < self.timeout_s < math.inf:
            raise OptionError(f"timeout must be more than 0 seconds, not {self.timeout_s!r}.")
        for name in ("max_history_tokens", "max_history_images", "max_retries"):
            if (value := getattr(self, name)) < 0:
                raise OptionError(f"{name} must be 0 or more, not {value!r}.")

    def model_for(self, base_url: str = "") -> str:
        """Return the model that is asked when a call names none.

        With an address and no model, it is the provider ``openai`` alone: nothing meant for a server goes to the
        embedded model.

        Args:
            base_url: Address given for this call; empty: none.
        """
        is_default = self.model == DEFAULT_MODEL and not self.origins.get("model")
        return "openai" if is_default and (base_url or self.base_url) else self.model

    def configured_address(self, provider: str) -> tuple[str, str]:
        """Return `base_url` and where it comes from, if it is the address of this provider; else two empty texts.

        It is the server of ``openai``, and so of models without a provider, and of the provider of `model`, unless the
        model was set nearer (this session, the environment, the file) than the address: whoever names another
        provider after that means its own server.
        """
        origin = self.origins.get("base_url", "")
        home = self.aliases.get(self.model, self.model).strip().partition("/")[0]
        is_home = provider == home and _nearness(origin) >= _nearness(self.origins.get("model", ""))
        if self.base_url and (is_home or provider == "openai"):
            return self.base_url, origin or "base_url"
        return "", ""

    def search(self, provider: str, preset: Preset) -> EndpointSearch:
        """Return the places in which the address and the key of a provider are looked for."""
        return EndpointSearch(
            provider=provider,
            preset=preset,
            mine=self.providers.get(provider, ProviderSettings()),
            environ=self.environ,
            keys=self.keys,
            config=str(config_path(self.environ)),
        )

    def endpoint(
        self,
        provider: str,
        preset: Preset | None,
        *,
        base_url: str = "",
        origin: str = "--base-url",
        model: str = "",
        proxy: Secret | None = None,
        is_dry: bool = False,
    ) -> Endpoint:
        """Find address, key and proxy for one provider; see `endpoints` for which key goes to which server.

        Args:
            provider: The provider's name.
            preset: Built-in facts about it, or None for a provider without a server.
            base_url: Address that takes precedence; empty for the one of file, environment or preset.
            origin: Where `base_url` comes from.
            model: Name of the model, for addresses that hold it.
            proxy: Proxy given for this call.
            is_dry: Whether nothing will be sent, so that no key is needed.

        Returns:
            The endpoint; its key is None where there is none for that server.

        Raises:
            ConfigError: An address or a key that cannot be used.
            MissingKeyError: The provider needs a key and there is none for that server.
        """
        through = checked_proxy(proxy, "--proxy or proxy=") if proxy else self.proxy
        if preset is None:
            return Endpoint(provider=provider, proxy=through)
        search = self.search(provider, preset)
        url, place = search.address(base_url, origin)
        return search.endpoint(url, place, model=model, proxy=through, is_dry=is_dry)


def _nearness(origin: str) -> int:
    """Return how near to the user a value was set: the default 0, the file 1, the environment 2, this session 3."""
    return 3 if origin == "this session" else 2 if origin.startswith("AICHAT_") else 1 if origin else 0


def config_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the TOML file: ``AICHAT_CONFIG``, or ``config.toml`` in the user's configuration directory."""
    if named := environ.get("AICHAT_CONFIG"):
        return Path(named)
    import platformdirs  # takes 4 ms, which `%load_ext` need not spend

    return Path(platformdirs.user_config_dir("aichat_magic", appauthor=False)) / "config.toml"


def load_settings(environ: Mapping[str, str] | None = None, path: Path | None = None) -> Settings:
    """Merge settings from the environment, the file and the defaults; the first place that names one wins.

    Args:
        environ: The environment; default `os.environ`.
        path: The TOML file; default `config_path`. A missing file is an empty one.

    Returns:
        The merged settings.

    Raises:
        ConfigError: A value of the wrong type, an unknown name (the nearest is named), or a file that is not TOML.
    """
    environ = Environment(os.environ if environ is None else environ)
    path = config_path(environ) if path is None else path
    values, tables = read_config(path)
    options: dict[str, Any] = dict(tables.pop("options", {}))
    if "extra" in options:
        options["options"] = options.pop("extra")
    origins = {name: str(path) for name in (*values, *options)}
    for name, wanted in SETTING_TYPES.items():
        if environ.get(source := f"AICHAT_{name.upper()}"):
            values[name] = converted(environ[source], wanted, source)
            origins[name] = source
    for name, wanted in OPTION_TYPES.items():
        if environ.get(source := f"AICHAT_{name.upper()}"):
            value = _option_value(environ[source], wanted, source)
            if isinstance(value, dict) and isinstance(options.get(name), dict):
                value = {**options[name], **value}
            options[name] = value
            origins[name] = source
    return _merged(values, options, tables, environ, origins)


def _merged(
    values: dict[str, Any],
    options: dict[str, Any],
    tables: dict[str, Any],
    environ: Mapping[str, str],
    origins: Mapping[str, str],
) -> Settings:
    """Make `Settings` of plain values. The error for one out of range names the place it comes from."""
    unknown = [name for name in options if name not in OPTION_TYPES]
    if unknown:
        raise ConfigError(
            f"Unknown option {unknown[0]!r} in [options].{did_you_mean(unknown[0], OPTION_TYPES)} "
            f"A vendor's own options stand in [options.extra]."
        )
    if options.get("options") == UNSET:
        del options["options"]
    if proxy := values.pop("proxy", None):
        values["proxy"] = checked_proxy(proxy, origins["proxy"])
    for name, value in options.items():
        if problem := _problem(options_from, {name: value}):
            raise ConfigError(f"{problem} It is set in {origins[name]}.")
    for name in ("timeout_s", "max_history_tokens", "max_history_images", "max_retries"):
        if name in values and (problem := _problem(lambda given: Settings(**given), {name: values[name]})):
            raise ConfigError(f"{problem} It is set in {origins[name]}.")
    for name, model in tables.get("aliases", {}).items():
        if not isinstance(model, str):
            raise ConfigError(f"{name} = {model!r} in [aliases] must be a text: provider/model.")
    return Settings(
        **values,
        options=options_from(options),
        aliases=MappingProxyType(tables.get("aliases", {})),
        providers=MappingProxyType(
            {name: provider_settings(name, table) for name, table in tables.get("providers", {}).items()}
        ),
        prices=MappingProxyType({name: price_from(name, table) for name, table in tables.get("prices", {}).items()}),
        environ=environ,
        origins=MappingProxyType(origins),
    )


def _option_value(text: str, wanted: Callable[[str], Any], source: str) -> Any:
    """Convert a text to the value of an option; ``unset`` stays as it is."""
    return UNSET if text.strip().lower() == UNSET else converted(text, wanted, source)


def _problem(make: Callable[[dict[str, Any]], Options | Settings], given: dict[str, Any]) -> str:
    """Return why a value is out of its range; empty when it is not."""
    try:
        make(given)
    except OptionError as error:
        return str(error)
    return ""


def environment_names() -> tuple[str, ...]:
    """Return the environment variables that this package reads, without those that hold the key of a provider."""
    others = ("API_KEY", "CONFIG", "CONVERSATIONS", "COOKIES", "MODEL_DIR", "STORE")
    return tuple(f"AICHAT_{name.upper()}" for name in (*SETTING_TYPES, *OPTION_TYPES, *others))


def effective_settings(settings: Settings) -> list[tuple[str, str, str]]:
    """List every setting: its name, its value as text, and where the value comes from. A proxy is shown as stars.

    Args:
        settings: The settings in force.
    """
    rows = []
    for name in setting_names():
        key = setting_name(name)
        options = settings.options
        value: Any = (
            getattr(settings, key)
            if key in SETTING_TYPES
            else UNSET
            if key in options.unset
            else getattr(options, "extra" if key == "options" else key)
        )
        if isinstance(value, tuple):
            value = " | ".join(value)
        text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
        rows.append((name, text, settings.origins.get(key, "default" if text else "")))
    return rows


def setting_names() -> tuple[str, ...]:
    """Return the names that `changed` accepts."""
    return tuple(name.removesuffix("_s") for name in (*SETTING_TYPES, *OPTION_TYPES))


def setting_name(name: str) -> str:
    """Normalize the name of a setting: ``max-tokens`` is ``max_tokens``, and ``timeout`` is ``timeout_s``."""
    name = name.replace("-", "_")
    return "timeout_s" if name == "timeout" else name


def changed(settings: Settings, name: str, value: str) -> Settings:
    """Return settings with one value changed, as `%aichat set NAME VALUE` does.

    Args:
        settings: The settings to start from.
        name: A setting or a sampling option.
        value: Its new value as text; ``default``: its default; ``unset``, for an option: not sent.

    Returns:
        The new settings.

    Raises:
        ConfigError: An unknown name, or a value of the wrong type.
        OptionError: A value outside its range.
    """
    name = setting_name(name)
    is_default = is_reset(name, value, settings)
    settings = dataclasses.replace(settings, origins={**settings.origins, name: "this session"})
    if name in OPTION_TYPES:
        return _with_option(settings, name, None if is_default else _option_value(value, OPTION_TYPES[name], name))
    if name == "proxy":
        proxy = None if is_default else checked_proxy(Secret(value), "%aichat set proxy")
        return dataclasses.replace(settings, proxy=proxy)
    if name not in SETTING_TYPES:
        raise ConfigError(f"Unknown setting {name!r}.{did_you_mean(name, setting_names())}")
    defaults = {f.name: f.default for f in dataclasses.fields(Settings)}
    if name == "base_url" and not is_default:
        base_url_of(value)
    new: Any = defaults[name] if is_default else converted(value, SETTING_TYPES[name], name)
    return dataclasses.replace(settings, **{name: new})


def is_reset(name: str, value: str, settings: Settings) -> bool:
    """Tell whether a value means that a setting goes back to its default: ``default``, or ``none``.

    ``none`` as a level of reasoning is a value, and so is the name of a model's alias.
    """
    word = value.lower()
    if name == "model" and value in settings.aliases:
        return False
    return word == "default" or (word == "none" and name != "reasoning")


def _with_option(settings: Settings, name: str, value: Any) -> Settings:
    """Return settings with one option set, unset, or (None) as if nobody had set it."""
    old = settings.options
    if name == "options":
        names = {*old.extra_options, *(unset for unset in old.unset if unset not in OPTION_NAMES)}
        cleared = dataclasses.replace(old, extra=None, unset=tuple(n for n in old.unset if n not in names))
        options = cleared if value is None or value == UNSET else options_from({name: value}).over(old)
    else:
        fresh: dict[str, Any] = {name: () if name == "stop" else None}
        cleared = dataclasses.replace(old, **fresh, unset=tuple(n for n in old.unset if n != name))
        options = cleared if value is None else options_from({name: value}).over(cleared)
    return dataclasses.replace(settings, options=options)
