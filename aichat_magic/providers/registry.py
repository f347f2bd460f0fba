"""The registry of providers: resolves a name such as ``openai/gpt-5-mini`` to a provider and a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from ..core.errors import ConfigError, NotWorkingError, UnexpectedError, UnknownNameError
from ..core.secrets import Secret
from ..core.settings import Preset, Settings
from ..http.client import HttpClient
from ..text.words import nearest, nearest_name, shorten
from .base import AsyncProvider
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
                f"No provider {shorten(name, 60)!r}.{nearest(name, known)} Known: {', '.join(known)}."
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
            name: ``provider/model``, a provider alone (its default model), or an alias. With a `base_url`, any other
                name is a model of that server.
            settings: Aliases, keys and addresses.
            base_url: Address for this call; empty: from the settings.
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
        is_known = prefix in self._by_name() or prefix in settings.providers
        if base_url and not is_known:
            prefix, model = "openai", name
        elif not is_known and "/" not in name and "openai" in self._by_name():
            raise UnknownNameError(
                f"Model {shorten(name, 60)!r} names no provider.{self._suggestion(name, settings)} "
                f"Write provider/model; %aichat providers lists the providers."
            )
        cls = self.provider_class(prefix, settings)
        preset = self.preset(prefix, settings)
        model = model or (preset.default_model if preset else "") or cls.default_model
        if not model:
            raise ConfigError(f"Which model of {prefix!r}? Write {prefix}/MODEL. %aichat models {prefix} lists them.")
        if not cls.working and not allow_not_working:
            raise NotWorkingError(
                f"Provider {prefix!r} is switched off: {cls.not_working_reason} Choose another model, or insist with "
                f"--allow-not-working (allow_not_working=True) and a --base-url of your own."
            )
        if base_url and preset is None:
            raise ConfigError(
                f"Provider {prefix!r} has no server, so --base-url does not fit it. "
                f"Name a model of that server: -m MODEL."
            )
        home = settings.aliases.get(settings.model, settings.model).strip().partition("/")[0]
        configured = settings.base_url if prefix in ("openai", home) else ""
        endpoint = settings.endpoint(prefix, preset, base_url=base_url or configured, proxy=proxy, is_dry=is_dry)
        provider = cls(endpoint, self._http)
        # Set afterwards, because providers of other packages may have an `__init__` of their own.
        provider.profiles = self._profiles
        return ResolvedModel(provider, model)

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
