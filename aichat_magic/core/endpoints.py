"""The address and the key of a provider's server: found where the user, the environment or a preset names them.

Which key goes to which server is decided here. A key belongs to one server: the provider's own, or the one that is
named beside it in the same place. An address from elsewhere (a flag, a notebook) never gets the key of another server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

from .config_file import ProviderSettings
from .errors import ConfigError, MissingKeyError
from .installation import install_command
from .keys import FoundKey, KeyRing
from .secrets import Secret, key_from
from .urls import base_url_of, host_of, is_same_server, is_url

_VARIABLE = re.compile(r"\{([A-Z][A-Z0-9_|]*)\}")


class TokenSource(Protocol):
    """A source of tokens that stand in for a key and expire."""

    async def token(self) -> Secret:
        """Return a token that is valid for some minutes at least. The event loop does not wait for its making.

        Raises:
            AichatError: There is none.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Built-in facts about a provider.

    Attributes:
        base_url: Address of its API, without a final slash. ``{NAME}`` or ``{NAME|OTHER}`` stands for the value of the
            first of these environment variables that is set, ``{model}`` for the model. Empty: see `address_env`.
        key_env: Environment variable that holds its key; empty when it takes none.
        other_key_envs: Further variables for the key, after `key_env`.
        needs_key: Whether a request without a key is pointless.
        default_model: The model meant by the provider's name alone; empty when there is none.
        start: How to start its server, for one that runs on the user's machine: a command or a few words.
        address_env: Environment variable by which its own programs know the address; empty when there is none.
        read_address: Returns the address of the API for a value of `address_env`.
        key_header: Header that carries the key; empty: ``authorization``, after the word Bearer.
        token_scope: Scope of tokens that stand in for a key; empty when it takes none.
        token_extra: Extra of this package that gets such tokens.
        token_help: How to get them once it is installed, as the end of a sentence.
        token_hosts: Ends of the names of the hosts that may get such a token.
        ended: Why the provider cannot be used any more, and what to use instead: one or two sentences.
    """

    base_url: str
    key_env: str = ""
    other_key_envs: tuple[str, ...] = ()
    needs_key: bool = False
    default_model: str = ""
    start: str = ""
    address_env: str = ""
    read_address: Callable[[str], str] = str
    key_header: str = ""
    token_scope: str = ""
    token_extra: str = ""
    token_help: str = ""
    token_hosts: tuple[str, ...] = ()
    ended: str = ""

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the environment variables that its address comes from."""
        named = (name for names in _VARIABLE.findall(self.base_url) for name in names.split("|"))
        return tuple(filter(None, (self.address_env, *named)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Address, key and proxy for the server of one provider.

    Attributes:
        provider: The provider's name: ``"groq"``.
        base_url: Address of its API, without a final slash; empty for a provider without a server.
        key: The key for exactly this server, or None.
        proxy: Proxy for it; None: as the environment says.
        headers: Further headers of each request, from the user's file; their values may be secret.
        key_header: Header that carries the key; empty: as the dialect has it.
        tokens: Tokens that stand in for a key, or None.
        origin: Where the address comes from, for messages: ``"OLLAMA_HOST"``.
        key_origin: Where the key comes from; empty without a key.
        no_key: Without a key: to which server none was sent, why, and how to set one.
    """

    provider: str
    base_url: str = ""
    key: Secret | None = None
    proxy: Secret | None = None
    headers: tuple[tuple[str, Secret], ...] = ()
    key_header: str = ""
    tokens: TokenSource | None = None
    origin: str = ""
    key_origin: str = ""
    no_key: str = ""

    @property
    def host(self) -> str:
        """Return ``scheme://host:port`` of the server, for the store and for messages; empty without a server."""
        return host_of(self.base_url) if self.base_url else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSearch:
    """The places in which the address and the key of one provider are looked for.

    Attributes:
        provider: The provider's name.
        preset: Built-in facts about it.
        mine: The user's table ``[providers.NAME]``.
        environ: The environment.
        keys: The keys that were entered.
        config: Path of the user's file, for messages.
    """

    provider: str
    preset: Preset
    mine: ProviderSettings
    environ: Mapping[str, str]
    keys: KeyRing
    config: str

    def address(self, base_url: str = "", origin: str = "") -> tuple[str, str]:
        """Return the address of the API, and where it comes from.

        Args:
            base_url: Address that takes precedence; empty: none.
            origin: Where that one comes from.

        Raises:
            ConfigError: There is no address, or it cannot be used.
        """
        variable, beside = self._beside()
        own, own_origin = self._own()
        places = (
            (base_url, origin),
            (self.mine.base_url, f"[providers.{self.provider}] in config.toml"),
            (beside, variable),
            (own, own_origin),
        )
        for url, place in places:
            if url:
                url = base_url_of(url, "base URL" if place == "built in" else f"base URL ({place})")
                # A server alone is meant as the provider's own programs would take it.
                return url if urlsplit(url).path else self._read(url), place
        variables = " or ".join(self.preset.variables)
        give = f"Set {variables}, or give one" if variables else "Give one"
        raise ConfigError(f"Provider {self.provider!r} has no address. {give}: --base-url http://host:port/v1")

    def endpoint(
        self, url: str, origin: str, *, model: str = "", proxy: Secret | None = None, is_dry: bool = False
    ) -> Endpoint:
        """Return the endpoint for an address, with the key that belongs to it.

        Args:
            url: The address, as `address` returns it.
            origin: Where it comes from.
            model: Name of the model, for addresses that hold it.
            proxy: Proxy for all requests.
            is_dry: Whether nothing will be sent, so that no key is needed.

        Raises:
            ConfigError: A key that cannot be used.
            MissingKeyError: The provider needs a key and there is none for this server.
        """
        url = url.replace("{model}", quote(model, safe=""))
        own = self._own()[0]
        is_own = bool(own) and is_same_server(url, own)
        is_mine = is_same_server(url, self.mine.base_url or own) if self.mine.base_url or own else False
        headers = self.mine.headers if is_mine else ()
        homes = [(home, key) for home, key in self._homes() if is_url(home)]
        found = self.keys.entered(self.provider, url) or next(
            (key for home, key in homes if is_same_server(url, home)), None
        )
        if found is None and self.mine.is_key_in_keyring and not is_dry:
            found = self.keys.saved(self.provider, url)
        has_auth = any(name.lower() in ("authorization", "api-key", "x-api-key") for name, _ in headers)
        if found is None and self.preset.needs_key and is_own and not is_dry and not has_auth:
            raise MissingKeyError(self._missing())
        return Endpoint(
            provider=self.provider,
            base_url=url,
            key=found.key if found else None,
            proxy=proxy,
            headers=headers,
            key_header=self.preset.key_header,
            origin=origin,
            key_origin=found.source if found else "",
            no_key="" if found or has_auth else self._held_back(url, is_own, homes),
        )

    @property
    def has_address(self) -> bool:
        """Return whether the user, the environment or the preset names an address."""
        return bool(self.mine.base_url or self._beside()[1] or self._own()[0])

    def own_server(self) -> str:
        """Return ``scheme://host:port`` of the provider's own server; empty where its address is not known."""
        own = self._own()[0]
        return host_of(own) if is_url(own) else ""

    def _own(self) -> tuple[str, str]:
        """Return the address that the provider's own programs would call, and where it comes from."""
        if named := self.environ.get(self.preset.address_env, "").strip():
            return self._read(named), self.preset.address_env
        used: list[str] = []

        def value(match: re.Match[str]) -> str:
            name = next((name for name in match[1].split("|") if self.environ.get(name, "").strip()), "")
            used.append(name)
            return self.environ.get(name, "").strip()

        url = _VARIABLE.sub(value, self.preset.base_url)
        return ("", "") if "" in used else (url, used[0] if used else "built in")

    def _read(self, text: str) -> str:
        """Return the address of the API for a value of the provider's own variable; unchanged if it is none."""
        try:
            return self.preset.read_address(text)
        except ValueError:
            return text

    def _beside(self) -> tuple[str, str]:
        """Return the variable for the address of this provider, and its value: ``OPENAI_BASE_URL``."""
        prefix = self.provider.upper().replace("-", "_")
        # AICHAT_BASE_URL is the general setting, not the address of the provider that happens to be called so.
        name = f"{prefix}_BASE_URL"
        return name, "" if prefix == "AICHAT" else self.environ.get(name, "").strip()

    def _homes(self) -> Iterator[tuple[str, FoundKey]]:
        """Yield each key that is set, after the address of the server that it belongs to."""
        own = self._own()[0]
        if key := self._key("AICHAT_API_KEY"):
            home = self.environ.get("AICHAT_BASE_URL", "").strip()
            yield home and base_url_of(home, "AICHAT_BASE_URL"), key
        if self.mine.key is not None:
            yield self.mine.base_url or own, FoundKey(key=self.mine.key, source="config.toml")
        preset = self.preset
        for name in (self.mine.key_env,) if self.mine.key_env else (preset.key_env, *preset.other_key_envs):
            if key := self._key(name):
                yield own, key
                # The user put both into the same place, so they belong together.
                yield self._beside()[1], key
                if self.mine.key_env:
                    yield self.mine.base_url, key

    def _key(self, variable: str) -> FoundKey | None:
        """Return the key in an environment variable, or None."""
        key = Secret(self.environ.get(variable, "").strip()) if variable else Secret("")
        return FoundKey(key=key_from(key, variable), source=variable) if key else None

    def _missing(self) -> str:
        """Return the text of the error for a provider without its key."""
        name = self.provider
        return (
            f"No key for provider {name!r}. Enter it with %aichat key {name}, set "
            f"{self.mine.key_env or self.preset.key_env} in the environment, or write into {self.config}:\n"
            f"    [providers.{name}]\n"
            f'    api_key = "..."\n'
            f"%aichat providers shows which have a key; the embedded model needs none." + self._token_help()
        )

    def _token_help(self) -> str:
        """Return a line on how to do without a key, where that is possible."""
        preset = self.preset
        if not preset.token_extra:
            return ""
        return f"\nWithout a key: {install_command(preset.token_extra)}, and {preset.token_help}"

    def _held_back(self, url: str, is_own: bool, homes: list[tuple[str, FoundKey]]) -> str:
        """Return to which server no key was sent, why, and how to set one."""
        belongs = {key.source: host_of(home) for home, key in homes}
        why = "".join(f"; the one in {source} belongs to {home}" for source, home in belongs.items())
        key_env = self.mine.key_env or self.preset.key_env
        variables = f"set {key_env}" if is_own and key_env else "set AICHAT_API_KEY together with AICHAT_BASE_URL"
        return f"No key was sent to {host_of(url)}{why}. For this server, {variables}, or: %aichat key {self.provider}"


def is_token_host(url: str, preset: Preset) -> bool:
    """Return whether a server may get a token that stands in for the key of a provider: by https, at its own hosts."""
    parts = urlsplit(url)
    return parts.scheme == "https" and bool(preset.token_scope) and (parts.hostname or "").endswith(preset.token_hosts)
