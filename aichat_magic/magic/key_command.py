"""`%aichat key`: asks for a key without showing it, and keeps it for the session, in the keyring or in the file."""

from __future__ import annotations

import getpass
import warnings
from collections.abc import Callable

from ..chat.chat import Chat
from ..core.config_edit import edit_provider
from ..core.errors import BadInputError, ConfigError
from ..core.secrets import Secret, key_from
from ..core.settings import config_path
from ..core.urls import host_of, is_same_server
from ..text.words import did_you_mean
from .flags import ArgumentError
from .line_words import split_line

_FORM = "Write it as: %aichat key PROVIDER, %aichat key PROVIDER --save, or %aichat key PROVIDER --forget"


def ask_for_key(prompt: str) -> Secret:
    """Ask the user for a key without echo: in a notebook in a field for passwords.

    Raises:
        BadInputError: Nothing can be asked for here: a notebook that runs by itself, a pipe.
    """
    try:
        with warnings.catch_warnings():
            # It warns before it would show what is typed.
            warnings.simplefilter("error", getpass.GetPassWarning)
            return Secret(getpass.getpass(prompt).strip())
    except (NotImplementedError, EOFError, OSError, getpass.GetPassWarning):
        pass
    raise BadInputError(
        "A key cannot be asked for here: nobody can type, or it would be shown. Set the variable of the environment "
        "instead; %aichat help keys lists them."
    )


class KeyCommand:
    """The command `%aichat key`."""

    def __init__(self, chat: Chat, ask: Callable[[str], Secret] = ask_for_key) -> None:
        """Keep the keys and settings of the session, and the way to ask the user."""
        self._chat = chat
        self._ask = ask

    def run(self, rest: str) -> str:
        """Ask for, save or forget a key.

        Args:
            rest: The text after the command.

        Returns:
            What was done, in one sentence. It holds no key.

        Raises:
            BadInputError: The line cannot be understood, or there is nothing to ask for. It shows nothing of the line,
                where somebody may have put a key.
            ConfigError: The key or the file cannot be used.
        """
        provider, flag = _parsed(rest)
        settings = self._chat.settings
        known = self._chat.registry.names(settings)
        if provider not in known:
            raise BadInputError(
                f"There is no provider of that name.{did_you_mean(provider, known)} %aichat providers lists them. "
                f"A key never belongs on this line: it would stay in the history."
            )
        preset = self._chat.registry.preset(provider, settings)
        if preset is None or not (preset.key_env or provider in settings.providers):
            raise BadInputError(f"Provider {provider!r} takes no key.")
        address, origin = settings.configured_address(provider)
        url, _ = settings.search(provider, preset).address(address, origin)
        if flag == "--forget":
            return self._forgotten(provider, url)
        key = self._ask(f"Key for {provider} at {host_of(url)}: ")
        if not key:
            raise BadInputError("No key was entered; nothing has changed.")
        key = key_from(key, "what was entered", f"Enter it again: %aichat key {provider}")
        place = self._saved(provider, url, key) if flag == "--save" else "this session"
        self._chat.keys.enter(provider, url, key)
        return f"Key for {provider} at {host_of(url)}: kept in {place}, and sent to no other server."

    def _saved(self, provider: str, url: str, key: Secret) -> str:
        """Save a key for later sessions, and return where it is."""
        settings = self._chat.settings
        path = config_path(settings.environ)
        if self._chat.keys.save(provider, url, key):
            edit_provider(path, provider, {"keyring": True, "api_key": None})
            return "the system's keyring"
        preset = self._chat.registry.preset(provider, settings)
        mine = settings.providers.get(provider)
        home = (mine.base_url if mine else "") or (settings.search(provider, preset).own_server() if preset else "")
        if not home or not is_same_server(url, home):
            # In the file the key would belong to the provider's own server.
            raise ConfigError(
                f"The key was not saved: in {path} it would belong to {home or 'no server'}, not to {host_of(url)}. "
                f'Give this server a table there, [providers.NAME] with base_url = "...", then: %aichat key NAME --save'
            )
        edit_provider(path, provider, {"api_key": key, "keyring": None})
        return f"{path} (mode 0600)"

    def _forgotten(self, provider: str, url: str) -> str:
        """Remove the keys that this command has kept, and say what is left."""
        settings = self._chat.settings
        mine = settings.providers.get(provider)
        places = self._chat.keys.forget(provider, url, is_saved=mine is not None and mine.is_key_in_keyring)
        if mine is not None and (mine.key is not None or mine.is_key_in_keyring):
            path = config_path(settings.environ)
            edit_provider(path, provider, {"api_key": None, "keyring": None})
            places += [str(path)] if mine.key is not None else []
        if not places:
            return f"There was no key for {provider} that %aichat key has kept."
        settings = self._chat.settings
        preset = self._chat.registry.preset(provider, settings)
        left = settings.search(provider, preset).endpoint(url, "", is_dry=True).key_origin if preset else ""
        more = f" The one in {left} is in force now." if left else ""
        return f"Forgot the key for {provider}: {', '.join(places)}.{more}"


def _parsed(rest: str) -> tuple[str, str]:
    """Return the provider and the flag. No error shows the line, where somebody may have put a key."""
    words: list[str] = []
    try:
        words = split_line(rest)
    except ArgumentError:
        pass
    flags = [word for word in words if word in ("--save", "--forget")]
    names = [word for word in words if word not in flags]
    if len(names) != 1 or len(flags) > 1 or names[0].startswith("-"):
        raise BadInputError(
            f"{_FORM}. The key itself is asked for: on this line it would stay in the history. If it stands there, "
            f"remove the line, and make a new key."
        )
    return names[0], flags[0] if flags else ""
