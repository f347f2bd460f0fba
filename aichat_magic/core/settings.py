"""Where a value comes from: flag, `%config` or `%aichat set`, environment, the TOML file, default. Keys, too."""

from __future__ import annotations

import dataclasses
import math
import os
import stat
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..text.words import nearest, shorten
from .errors import ConfigError, MissingKeyError, OptionError
from .options import _OPTION_KINDS, Options
from .prices import Price
from .secrets import Environment, Secret, key_from
from .urls import checked_proxy, checked_url, host_of

DEFAULT_MODEL = "local/smollm2-135m"


def _truth(text: str) -> bool:
    """True or false, as people write it."""
    found = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in found:
        raise ValueError(text)
    return found[text.lower()]


_truth.__name__ = "true or false"
_SETTING_KINDS: dict[str, Callable[[str], Any]] = {
    "model": str,
    "base_url": str,
    "proxy": Secret,
    "system": str,
    "timeout_s": float,
    "max_history_tokens": int,
    "max_retries": int,
    "keep_history": _truth,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is known of a provider before the user says anything.

    Attributes:
        base_url: Address of its API, without a final slash.
        key_env: Environment variable that holds its key; empty when it takes none.
        needs_key: Whether a request without a key is pointless.
        default_model: The model meant by the provider's name alone; empty when there is no such thing.
        start: How its server is started, for one that runs on the user's machine: a command or a few words.
    """

    base_url: str
    key_env: str = ""
    needs_key: bool = False
    default_model: str = ""
    start: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where one provider's server is, and how to get in.

    Attributes:
        provider: The provider's name: ``"groq"``.
        base_url: Address of its API, without a final slash; empty for a provider without a server.
        key: The key for exactly this host, or None.
        proxy: Proxy for it, or None for what the environment says.
    """

    provider: str
    base_url: str = ""
    key: Secret | None = None
    proxy: Secret | None = None

    @property
    def host(self) -> str:
        """``host:port`` of the server, for the store and for messages."""
        return host_of(self.base_url) if self.base_url else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What the TOML file says of one provider: ``[providers.NAME]``."""

    base_url: str = ""
    key: Secret | None = None
    key_env: str = ""
    default_model: str = ""


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
        max_history_tokens: Budget of the history that is sent, in tokens as estimated.
        max_retries: How often one request is sent again, >= 0.
        keep_history: Whether conversations are written to a file, so that they are there after a restart.
        aliases: The user's own names for models.
        providers: What the file says of providers.
        prices: The user's own prices, by ``provider/model``.
        environ: The environment, for keys.
        origins: Where values come from that are not the defaults, by name: a variable, the file, this session.
    """

    model: str = DEFAULT_MODEL
    base_url: str = ""
    proxy: Secret | None = None
    system: str = ""
    options: Options = field(default_factory=Options)
    timeout_s: float = 600.0
    max_history_tokens: int = 16_000
    max_retries: int = 4
    keep_history: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every range, and hide the environment.

        Raises:
            OptionError: A value is outside its range.
        """
        object.__setattr__(self, "environ", Environment(self.environ))
        if not 0 < self.timeout_s < math.inf:
            raise OptionError(f"timeout must be more than 0 seconds, not {self.timeout_s!r}.")
        for name in ("max_history_tokens", "max_retries"):
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
        """Address, key and proxy for one provider.

        A key is bound to a host: the one its provider is known to have, or the one that stands beside it in the same
        place (the environment, or the provider's table in the file). An address from elsewhere (a flag, a notebook)
        gets no key of another host.

        Args:
            provider: The provider's name.
            preset: What is known of it, or None for a provider without a server.
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
            homes.append((self.environ.get("AICHAT_BASE_URL", ""), key_from(own, "AICHAT_API_KEY")))
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
        """A variable of the environment that holds a key."""
        return Secret(self.environ.get(name, "").strip())

    def key_source(self, provider: str, preset: Preset) -> str:
        """Where the key of a provider is looked for first and found: a variable, or ``config.toml``; never the key."""
        mine = self.providers.get(provider, ProviderSettings())
        if mine.key is not None:
            return "config.toml"
        key_env = mine.key_env or preset.key_env
        return key_env if key_env and self._variable(key_env) else "AICHAT_API_KEY"

    def has_key(self, provider: str, preset: Preset) -> bool:
        """Whether there is a key for a provider at its own address."""
        try:
            return self.endpoint(provider, preset).key is not None
        except (MissingKeyError, ConfigError):
            return False


def config_path(environ: Mapping[str, str]) -> Path:
    """The TOML file: ``AICHAT_CONFIG``, or ``aichat_magic/config.toml`` in the user's configuration directory."""
    if named := environ.get("AICHAT_CONFIG"):
        return Path(named)
    import platformdirs  # 4 ms that `%load_ext` need not pay

    return Path(platformdirs.user_config_dir("aichat_magic", appauthor=False)) / "config.toml"


def load_settings(environ: Mapping[str, str] | None = None, path: Path | None = None) -> Settings:
    """Settings from the environment, the file and the defaults, in this order.

    Args:
        environ: The environment; default `os.environ`.
        path: The TOML file; default `config_path`. A missing file is an empty one.

    Returns:
        The merged settings.

    Raises:
        ConfigError: A value of the wrong kind, an unknown name (the nearest is named), or a file that is not TOML.
    """
    environ = Environment(os.environ if environ is None else environ)
    path = config_path(environ) if path is None else path
    values, tables = _read_file(path)
    options: dict[str, Any] = dict(tables.pop("options", {}))
    origins = {name: str(path) for name in (*values, *options)}
    for name, kind in _SETTING_KINDS.items():
        if environ.get(source := f"AICHAT_{name.upper()}"):
            values[name] = _converted(environ[source], kind, source)
            origins[name] = source
    for name, kind in _OPTION_KINDS.items():
        if environ.get(source := f"AICHAT_{name.upper()}"):
            options[name] = _converted(environ[source], kind, source)
            origins[name] = source
    return _merged(values, options, tables, environ, origins)


def _merged(
    values: dict[str, Any],
    options: dict[str, Any],
    tables: dict[str, Any],
    environ: Mapping[str, str],
    origins: Mapping[str, str],
) -> Settings:
    """The `Settings` that plain values make. One out of range is told with its place."""
    if isinstance(options.get("stop"), list):
        options["stop"] = tuple(options["stop"])
    unknown = [name for name in options if name not in _OPTION_KINDS and name != "stop"]
    if unknown:
        raise ConfigError(f"Unknown option {unknown[0]!r} in [options].{nearest(unknown[0], _OPTION_KINDS)}")
    if proxy := values.pop("proxy", None):
        values["proxy"] = checked_proxy(proxy, origins["proxy"])
    for name, value in options.items():
        if problem := _range_problem(Options, name, value):
            raise ConfigError(f"{problem} It stands in {origins[name]}.")
    for name in ("timeout_s", "max_history_tokens", "max_retries"):
        if name in values and (problem := _range_problem(Settings, name, values[name])):
            raise ConfigError(f"{problem} It stands in {origins[name]}.")
    for name, model in tables.get("aliases", {}).items():
        if not isinstance(model, str):
            raise ConfigError(f"{name} = {model!r} in [aliases] must be a text: provider/model.")
    return Settings(
        **values,
        options=Options(**options),
        aliases=MappingProxyType(tables.get("aliases", {})),
        providers=MappingProxyType(
            {name: _provider_settings(name, table) for name, table in tables.get("providers", {}).items()}
        ),
        prices=MappingProxyType({name: _price(name, table) for name, table in tables.get("prices", {}).items()}),
        environ=environ,
        origins=MappingProxyType(origins),
    )


def _range_problem(kind: type[Options | Settings], name: str, value: Any) -> str:
    """Why a value cannot be; empty when it can."""
    try:
        kind(**{name: value})
    except OptionError as error:
        return str(error)
    return ""


def _price(name: str, table: Any) -> Price:
    """One table ``[prices."provider/model"]``."""
    known = ("input", "output", "cached")
    if not isinstance(table, dict) or not {"input", "output"} <= set(table):
        raise ConfigError(f'[prices."{name}"] must have input and output: US dollars for a million tokens.')
    for entry, value in table.items():
        if entry not in known:
            raise ConfigError(f'Unknown entry {entry!r} in [prices."{name}"].{nearest(entry, known)}')
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ConfigError(f'{entry} in [prices."{name}"] must be a number, 0 or more.')
    return Price(**table)


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plain values and tables of the TOML file, names checked."""
    problem, content = _parsed(path)
    if problem:
        raise ConfigError(f"{path} is not TOML: {problem}")
    tables: dict[str, Any] = {
        name: content.pop(name) for name in ("options", "aliases", "providers", "prices") if name in content
    }
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{name!r} in {path} must be a table: [{name}]")
    for name, value in content.items():
        if name not in _SETTING_KINDS:
            raise ConfigError(f"Unknown setting {name!r} in {path}.{nearest(name, _SETTING_KINDS)}")
        content[name] = _checked_kind(name, value, path)
    if any("api_key" in table for table in tables.get("providers", {}).values() if isinstance(table, dict)):
        _warn_if_others_can_read(path)
    return content, tables


def _parsed(path: Path) -> tuple[str, dict[str, Any]]:
    """What is wrong with the file, and what stands in it, secrets as such. The caller raises: its frame has no keys."""
    try:
        raw = path.read_bytes()
    except OSError:
        return "", {}
    import tomllib  # 2 ms that a user without such a file need not pay

    try:
        content = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return shorten(str(error), 120), {}
    except RecursionError:
        return "it nests too deep", {}
    providers = content.get("providers")
    for table in [content, *(providers.values() if isinstance(providers, dict) else ())]:
        for name in {"proxy", "api_key"} & set(table if isinstance(table, dict) else ()):
            table[name] = Secret(table[name]) if isinstance(table[name], str) else None
    return "", content


def _checked_kind(name: str, value: Any, path: Path) -> Any:
    """A setting's value from the file, if it is of the right kind."""
    kind = _SETTING_KINDS[name]
    if kind is _truth:
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{name} = {value!r} in {path} must be true or false.")
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):  # type: ignore[arg-type]  # the kinds are types
        raise ConfigError(f"{name} = {value!r} in {path} must be of type {kind.__name__}.")
    return value


def _converted(text: str, kind: Callable[[str], Any], source: str) -> Any:
    """A value from the environment, converted."""
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{source}={shorten(text, 40)!r} must be of type {kind.__name__}.") from None


def _provider_settings(name: str, table: Any) -> ProviderSettings:
    """One table ``[providers.NAME]``."""
    known = ("base_url", "api_key", "api_key_env", "default_model")
    if not isinstance(table, dict):
        raise ConfigError(f"[providers.{name}] must be a table.")
    for entry, value in table.items():
        if entry not in known:
            raise ConfigError(f"Unknown setting {entry!r} in [providers.{name}].{nearest(entry, known)}")
        if not isinstance(value, str | Secret):
            raise ConfigError(f"{entry} in [providers.{name}] must be a text.")
    key = table.get("api_key")
    return ProviderSettings(
        base_url=checked_url(table["base_url"].strip(), "base URL") if "base_url" in table else "",
        key=key_from(key, f"[providers.{name}]") if key else None,
        key_env=table.get("api_key_env", ""),
        default_model=table.get("default_model", ""),
    )


def _warn_if_others_can_read(path: Path) -> None:
    """One warning when a file with keys is open to other users of the machine."""
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        warnings.warn(
            f"{path} holds a key and can be read by others. Close it: chmod 600 {path}", UserWarning, stacklevel=4
        )


def environment_names() -> tuple[str, ...]:
    """The variables that this package reads, beside those that hold the key of a provider."""
    others = ("API_KEY", "CONFIG", "CONVERSATIONS", "COOKIES", "MODEL_DIR", "STORE")
    return tuple(f"AICHAT_{name.upper()}" for name in (*_SETTING_KINDS, *_OPTION_KINDS, *others))


def effective_settings(settings: Settings) -> list[tuple[str, str, str]]:
    """Every setting: its name, its value as text, and where that comes from. A proxy does not show.

    Args:
        settings: What holds.
    """
    rows = []
    for name in setting_names():
        key = setting_name(name)
        value: Any = getattr(settings, key) if key in _SETTING_KINDS else getattr(settings.options, key)
        if isinstance(value, tuple):
            value = " | ".join(value)
        text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
        rows.append((name, text, settings.origins.get(key, "default" if text else "")))
    return rows


def setting_names() -> tuple[str, ...]:
    """What `changed` takes."""
    return tuple(name.removesuffix("_s") for name in (*_SETTING_KINDS, *_OPTION_KINDS, "stop"))


def setting_name(name: str) -> str:
    """The one spelling of a setting's name: ``max-tokens`` is ``max_tokens``, and ``timeout`` is ``timeout_s``."""
    name = name.replace("-", "_")
    return "timeout_s" if name == "timeout" else name


def changed(settings: Settings, name: str, value: str) -> Settings:
    """`settings` with one value changed, as `%aichat set NAME VALUE` says it.

    Args:
        settings: The settings to start from.
        name: A setting or a sampling option.
        value: Its new value as text; ``none``: the default.

    Returns:
        The new settings.

    Raises:
        ConfigError: An unknown name, or a value of the wrong kind.
        OptionError: A value outside its range.
    """
    name = setting_name(name)
    is_unset = value.lower() == "none"
    settings = dataclasses.replace(settings, origins={**settings.origins, name: "this session"})
    if name in _OPTION_KINDS:
        option: Any = None if is_unset else _converted(value, _OPTION_KINDS[name], name)
        return dataclasses.replace(settings, options=dataclasses.replace(settings.options, **{name: option}))
    if name == "stop":
        stop = () if is_unset else (value,)
        return dataclasses.replace(settings, options=dataclasses.replace(settings.options, stop=stop))
    if name == "proxy":
        proxy = None if is_unset else checked_proxy(Secret(value), "%aichat set proxy")
        return dataclasses.replace(settings, proxy=proxy)
    if name not in _SETTING_KINDS:
        raise ConfigError(f"Unknown setting {name!r}.{nearest(name, setting_names())}")
    defaults = {f.name: f.default for f in dataclasses.fields(Settings)}
    if name == "base_url" and not is_unset:
        checked_url(value.strip(), "base URL")
    new: Any = defaults[name] if is_unset else _converted(value, _SETTING_KINDS[name], name)
    return dataclasses.replace(settings, **{name: new})
