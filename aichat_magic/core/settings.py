"""Settings, merged from the session (`%config`, `%aichat set`), the environment, the TOML file and the defaults.

Keys, too: which key goes to which host is decided here.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..text.words import nearest
from .config_file import SETTING_TYPES, ProviderSettings, converted, price_from, provider_settings, read_config
from .errors import ConfigError, MissingKeyError, OptionError
from .options import OPTION_NAMES, OPTION_TYPES, UNSET, Options, options_from
from .prices import Price
from .secrets import Environment, Secret, key_from
from .urls import checked_proxy, checked_url, host_of

DEFAULT_MODEL = "local/smollm2-135m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Built-in facts about a provider.

    Attributes:
        base_url: Address of its API, without a final slash.
        key_env: Environment variable that holds its key; empty when it takes none.
        needs_key: Whether a request without a key is pointless.
        default_model: The model meant by the provider's name alone; empty when there is none.
        start: How to start its server, for one that runs on the user's machine: a command or a few words.
    """

    base_url: str
    key_env: str = ""
    needs_key: bool = False
    default_model: str = ""
    start: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Address, key and proxy for the server of one provider.

    Attributes:
        provider: The provider's name: ``"groq"``.
        base_url: Address of its API, without a final slash; empty for a provider without a server.
        key: The key for exactly this host, or None.
        proxy: Proxy for it; None: as the environment says.
    """

    provider: str
    base_url: str = ""
    key: Secret | None = None
    proxy: Secret | None = None

    @property
    def host(self) -> str:
        """Return ``scheme://host:port`` of the server, for the store and for messages; empty without a server."""
        return host_of(self.base_url) if self.base_url else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, merged.

    Attributes:
        model: ``provider/model``, or an alias.
        base_url: Address for the provider of `model`, and for `openai`; empty: the provider's own.
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

    def endpoint(
        self,
        provider: str,
        preset: Preset | None,
        *,
        base_url: str = "",
        proxy: Secret | None = None,
        is_dry: bool = False,
    ) -> Endpoint:
        """Find address, key and proxy for one provider.

        A key is bound to a host: the provider's own, or the one given beside it in the same place (the environment, or
        the provider's table in the file). An address from elsewhere (a flag, a notebook) never gets the key of another
        host.

        Args:
            provider: The provider's name.
            preset: Built-in facts about it, or None for a provider without a server.
            base_url: Address given for this call; empty for the configured one.
            proxy: Proxy given for this call.
            is_dry: Whether nothing will be sent, so that no key is needed.

        Returns:
            The endpoint; its key is None where there is none for that host.

        Raises:
            ConfigError: An address or a key that cannot be used.
            MissingKeyError: The provider needs a key and there is none for that host.
        """
        through = checked_proxy(proxy, "--proxy or proxy=") if proxy else self.proxy
        if preset is None:
            return Endpoint(provider=provider, proxy=through)
        mine = self.providers.get(provider, ProviderSettings())
        prefix = provider.upper().replace("-", "_")
        # AICHAT_BASE_URL is the general setting, not the address of the provider that happens to be called so.
        env_url = "" if prefix == "AICHAT" else self.environ.get(f"{prefix}_BASE_URL", "")
        url = base_url or mine.base_url or env_url or preset.base_url
        if not url:
            raise ConfigError(f"Provider {provider!r} has no address. Give one: --base-url http://host:port/v1")
        url = checked_url(url.strip(), "base URL").rstrip("/")
        host = host_of(url)

        key_env = mine.key_env or preset.key_env
        homes: list[tuple[str, Secret | None]] = []
        if own := self._variable("AICHAT_API_KEY"):
            home = self.environ.get("AICHAT_BASE_URL", "").strip()
            homes.append((home and checked_url(home, "AICHAT_BASE_URL"), key_from(own, "AICHAT_API_KEY")))
        if mine.key is not None:
            homes.append((mine.base_url or preset.base_url, mine.key))
        if key_env and (env_key := self._variable(key_env)):
            key = key_from(env_key, key_env)
            homes.append((preset.base_url, key))
            # The user put both into the same place, so they belong together.
            homes.append((env_url, key))
            if mine.key_env:
                homes.append((mine.base_url, key))
        key_here = next((key for home, key in homes if home and host_of(home) == host), None)
        if key_here is None and preset.needs_key and not is_dry and host == host_of(preset.base_url):
            raise MissingKeyError(
                f"No key for provider {provider!r}. Set {key_env} in the environment, or write into "
                f"{config_path(self.environ)}:\n"
                f"    [providers.{provider}]\n"
                f'    api_key = "..."\n'
                f"%aichat providers shows which have a key; the embedded model needs none."
            )
        return Endpoint(provider=provider, base_url=url, key=key_here, proxy=through)

    def _variable(self, name: str) -> Secret:
        """Return an environment variable that holds a key."""
        return Secret(self.environ.get(name, "").strip())

    def key_source(self, provider: str, preset: Preset) -> str:
        """Name the place where the key of a provider is found first: a variable, or ``config.toml``. Never the key."""
        mine = self.providers.get(provider, ProviderSettings())
        if mine.key is not None:
            return "config.toml"
        key_env = mine.key_env or preset.key_env
        return key_env if key_env and self._variable(key_env) else "AICHAT_API_KEY"

    def has_key(self, provider: str, preset: Preset) -> bool:
        """Tell whether there is a key for a provider at its own address."""
        try:
            return self.endpoint(provider, preset).key is not None
        except (MissingKeyError, ConfigError):
            return False


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
            f"Unknown option {unknown[0]!r} in [options].{nearest(unknown[0], OPTION_TYPES)} "
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
        raise ConfigError(f"Unknown setting {name!r}.{nearest(name, setting_names())}")
    defaults = {f.name: f.default for f in dataclasses.fields(Settings)}
    if name == "base_url" and not is_default:
        checked_url(value.strip(), "base URL")
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
