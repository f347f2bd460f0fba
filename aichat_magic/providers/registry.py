"""The registry of providers: resolves a name such as ``openai/gpt-5-mini`` to a provider and a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from ..core.endpoints import Preset, is_token_host
from ..core.errors import ConfigError, NotWorkingError, UnexpectedError, UnknownNameError
from ..core.secrets import Secret
from ..core.settings import Settings
from ..core.urls import without_password
from ..http.client import HttpClient
from ..text.words import did_you_mean, nearest_name, shorten
from .base import AsyncProvider
from .entra import EntraTokens, is_entra_installed
from .profile import ModelProfiles

GROUP = "aichat_magic.providers"
# Beginnings of model names, and the provider that serves them most directly (the makers' own lists, 2026-11).
_FAMILIES = {
    "gpt": "openai", "chatgpt": "openai", "o1": "openai", "o3": "openai", "o4": "openai",
    "claude": "anthropic", "gemini-": "gemini", "grok": "xai", "deepseek-": "deepseek",
    "mistral-": "mistral", "codestral": "mistral", "magistral": "mistral", "ministral": "mistral",
    "llama": "ollama", "qwen": "ollama", "phi": "ollama", "gemma": "ollama", "smollm": "local",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A provider, and the name of a model as that provider knows it."""

    provider: AsyncProvider
    model: str

    @property
    def name(self) -> str:
        """Return ``provider/model``."""
        return f"{self.provider.name}/{self.model}"


class Registry:
    """The providers by name: those of this package and those that other packages register."""

    def __init__(
        self, http: HttpClient, found: Callable[[], Iterable[EntryPoint]] = lambda: entry_points(group=GROUP)
    ) -> None:
        """Create a registry.

        Args:
            http: The HTTP client of every provider.
            found: Returns the entry points; called at first use, because that costs a few milliseconds.
        """
        self._http = http
        self._found = found
        self._profiles = ModelProfiles()
        self._entries: dict[str, EntryPoint] | None = None
        self._tokens: dict[str, EntraTokens] = {}

    def names(self, settings: Settings) -> list[str]:
        """Return the names of all providers, sorted, with those of the user's configuration file."""
        return sorted({*self._by_name(), *settings.providers})

    def provider_class(self, name: str, settings: Settings) -> type[AsyncProvider]:
        """Return the class of a provider.

        Raises:
            UnknownNameError: There is no such provider; the error names the nearest one.
            UnexpectedError: Another package registered it, and it cannot be imported.
        """
        entries = self._by_name()
        # A provider that only the user's configuration file names speaks the OpenAI dialect.
        entry = entries.get(name) or (entries.get("openai") if name in settings.providers else None)
        if entry is None:
            known = self.names(settings)
            raise UnknownNameError(
                f"No provider {shorten(name, 60)!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
            )
        try:
            loaded = entry.load()
        except Exception as error:
            problem = f"{type(error).__name__}: {shorten(str(error))}"
        else:
            if isinstance(loaded, type) and issubclass(loaded, AsyncProvider):
                return loaded
            problem = "it is not an AsyncProvider"
        raise UnexpectedError(f"Provider {name!r} ({entry.value}) cannot be used: {problem}.")

    def preset(self, name: str, settings: Settings) -> Preset | None:
        """Return the address and key of a provider's server, or None if it has no server."""
        known = self.provider_class(name, settings).presets.get(name)
        own = settings.providers.get(name)
        return known or (Preset(base_url=own.base_url, default_model=own.default_model) if own else None)

    def resolve(
        self,
        name: str,
        settings: Settings,
        *,
        base_url: str = "",
        proxy: Secret | None = None,
        allow_not_working: bool = False,
        is_dry: bool = False,
    ) -> ResolvedModel:
        """Find the provider and the model of a name.

        Args:
            name: ``provider/model``, a provider alone (its default model), or an alias. With an address, given here or
                in the settings, any other name is a model of that server.
            settings: Aliases, keys and addresses.
            base_url: Address for this call; empty: as `Settings.configured_address` and the provider have it.
            proxy: Proxy for this call; None: from the settings.
            allow_not_working: Use a provider even if it is known not to work.
            is_dry: Whether nothing will be sent, so that no key is needed.

        Returns:
            The provider and the model.

        Raises:
            UnknownNameError: There is no such provider; the error names the nearest one.
            ConfigError: The name or the address cannot be used.
            MissingKeyError: The provider needs a key and there is none.
            NotWorkingError: The provider is known not to work.
        """
        name = settings.aliases.get(name, name).strip()
        prefix, _, model = name.partition("/")
        if prefix not in self._by_name() and prefix not in settings.providers:
            if base_url or settings.base_url:
                prefix, model = "openai", name
            elif "/" not in name and "openai" in self._by_name():
                raise UnknownNameError(
                    f"Model {shorten(name, 60)!r} names no provider.{self._suggestion(name, settings)} Write "
                    f"provider/model (%aichat providers lists the providers), or name its server: --base-url URL."
                )
        cls = self.provider_class(prefix, settings)
        preset = self.preset(prefix, settings)
        if not model and preset is not None and not (preset.default_model or cls.default_model):
            if (base_url or settings.base_url) and prefix != "openai":
                # `mistral` is a provider, and a model of many servers.
                return self.resolve(f"openai/{name}", settings, base_url=base_url, proxy=proxy, is_dry=is_dry)
        address, origin = (base_url, "--base-url") if base_url else settings.configured_address(prefix)
        model = model or (preset.default_model if preset else "") or cls.default_model
        if not model:
            raise ConfigError(_which_model(prefix, address))
        if base_url and preset is None:
            raise ConfigError(
                f"Provider {prefix!r} has no server, so --base-url does not fit it. "
                f"Name a model of that server: -m MODEL."
            )
        if not allow_not_working:
            self._check_working(cls, prefix, preset, address)
        tokens = self._tokens_for(preset)
        endpoint = settings.endpoint(
            prefix,
            preset,
            base_url=address,
            origin=origin,
            model=model,
            proxy=proxy,
            is_dry=is_dry or (tokens is not None and is_entra_installed()),
        )
        if tokens is not None and preset is not None and endpoint.key is None and is_entra_installed():
            if is_token_host(endpoint.base_url, preset):
                endpoint = dataclasses.replace(endpoint, tokens=tokens, key_origin="Microsoft Entra ID", no_key="")
        provider = cls(endpoint, self._http)
        # Set afterwards, because providers of other packages may have an `__init__` of their own.
        provider.profiles = self._profiles
        return ResolvedModel(provider, model)

    def _check_working(self, cls: type[AsyncProvider], name: str, preset: Preset | None, address: str) -> None:
        """Raise if a provider is known not to work."""
        if not cls.working:
            raise NotWorkingError(
                f"Provider {name!r} is switched off: {cls.not_working_reason} Choose another model, or insist with "
                f"--allow-not-working (allow_not_working=True) and a --base-url of your own."
            )
        if preset is not None and preset.ended and not address:
            raise NotWorkingError(f"Provider {name!r} is switched off: {preset.ended} --allow-not-working insists.")

    def _tokens_for(self, preset: Preset | None) -> EntraTokens | None:
        """Return the source of tokens that stand in for a provider's key; None if it takes none."""
        if preset is None or not preset.token_scope:
            return None
        return self._tokens.setdefault(preset.token_scope, EntraTokens(preset.token_scope))

    def _suggestion(self, name: str, settings: Settings) -> str:
        """Return a sentence that names the most likely model or provider for a name without a provider, or nothing."""
        maker = next((maker for family, maker in _FAMILIES.items() if name.lower().startswith(family)), "")
        # `mistral` alone is a provider; `mistral-large` is one of its models.
        if maker and name.lower() not in self.names(settings):
            return f" Did you mean {f'{maker}/{shorten(name, 60)}'!r}?"
        known = {model.partition("/")[2]: model for model in (settings.model, *settings.aliases.values())}
        found = nearest_name(name, [*known, *settings.aliases, *self.names(settings)])
        return f" Did you mean {known.get(found, found)!r}?" if found else ""

    def _by_name(self) -> dict[str, EntryPoint]:
        """Return the entry points by name; read them at first use."""
        if self._entries is None:
            self._entries = {entry.name: entry for entry in self._found()}
        return self._entries


def _which_model(provider: str, address: str) -> str:
    """Return the question for the model, where only a provider or an address is named."""
    if address:
        return (
            f"Which model of the server at {shorten(without_password(address), 80)}? Name one with -m MODEL or "
            f"%aichat use MODEL; %aichat models lists them."
        )
    return f"Which model of {provider!r}? Write {provider}/MODEL. %aichat models {provider} lists them."
