"""`%aichat` commands that ask no model: settings, models, conversations, totals."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..chat.chat import Chat
from ..core.errors import AichatError, BadInputError
from ..core.messages import Message
from ..core.options import CallOptions
from ..core.settings import Settings, config_path, effective_settings, setting_name
from ..core.sync import run_sync
from ..providers.base import AsyncProvider
from ..store.base import StoreSummary
from ..store.conversations import ConversationSummary
from ..text.terminal import show
from ..text.widgets import Note, Table, Transcript
from ..text.words import did_you_mean, shorten
from . import help as manual
from .arguments import parse_store, parse_use, words_of
from .context.templates import PromptTemplate
from .history import ChatHistory, named
from .notebook_identity import MAIN
from .template_commands import prompt_template_table
from .usage import UsageTotals, counted, usage_table

_PERIODS_S = {"day": 86_400.0, "month": 30 * 86_400.0, "all": 0.0}


class Commands:
    """The commands of a session; each method takes the text after its command's name."""

    def __init__(
        self,
        chat: Chat,
        history: ChatHistory,
        totals: UsageTotals,
        prompt_templates: Callable[[], Mapping[str, PromptTemplate]],
    ) -> None:
        """Keep what the commands work on.

        Args:
            chat: Settings, providers, stored replies.
            history: The conversations.
            totals: Usage of the session.
            prompt_templates: Reads the prompt templates.
        """
        self._chat = chat
        self._history = history
        self._totals = totals
        self._prompt_templates = prompt_templates
        self._listed: dict[str, None] = {}

    @property
    def listed_models(self) -> tuple[str, ...]:
        """Return the models that servers have listed in this session."""
        return tuple(self._listed)

    def run(self, name: str, rest: str) -> None:
        """Run a command.

        Args:
            name: One of `arguments.COMMANDS` that asks no model; empty: show the state of the session.
            rest: The text after it.

        Raises:
            AichatError: The command cannot be understood or carried out.
        """
        getattr(self, f"_do_{name or 'status'}")(rest)

    def _do_status(self, rest: str) -> None:
        history = self._history
        turns = counted(len(history.load(history.current)), "turn")
        rows = (
            ("model", self._model_text()),
            ("conversation", f"{history.current} ({turns}), {history.lifetime_text()}"),
            ("this session", self._totals.line()),
        )
        show(Table("aichat", ("", ""), rows, "%aichat help shows the commands; %aichat doctor checks the setup."))

    def _model_text(self) -> str:
        """Return the model that a cell asks; none is set where there is only an address."""
        settings = self._chat.settings
        if settings.model_for() == settings.model:
            return settings.model
        return f"none yet at {settings.base_url}: %aichat use MODEL"

    def _do_help(self, rest: str) -> None:
        show(Note(manual.page(rest, variables=self._key_variables())))

    def _key_variables(self) -> dict[str, str]:
        """Return the environment variable of each provider's key. Help works even if the settings are invalid."""
        registry, found = self._chat.registry, {}
        try:
            settings = self._chat.settings
        except AichatError:
            settings = Settings()
        for name in registry.names(settings):
            with contextlib.suppress(AichatError):
                preset = registry.preset(name, settings)
                found[name] = " or ".join(filter(None, (preset.key_env, *preset.other_key_envs))) if preset else ""
                if preset and preset.variables:
                    found[name] += f"\n{' ' * 19}address: {' or '.join(preset.variables)}"
        return found

    def _do_doctor(self, rest: str) -> None:
        from . import doctor  # rarely needed

        words_of("doctor", rest, least=0, most=0)
        show(doctor.examine(self._chat, self._history.location()))

    def _do_templates(self, rest: str) -> None:
        words_of("templates", rest, least=0, most=0)
        folder = config_path(self._chat.settings.environ).parent / "templates"
        show(prompt_template_table(self._prompt_templates(), str(folder)))

    def _do_use(self, rest: str) -> None:
        model, base_url = parse_use(rest)
        if base_url:
            self._checked(model, base_url)
            self._chat.set("base_url", base_url)
            self._chat.set("model", model)
            show(Note(self._used()))
            return
        note = ""
        provider = self._checked(model, "").endpoint.provider
        if self._chat.was_set("base_url") and provider != "openai":
            # Another provider means its own server, not the one that was chosen before it.
            note = f"\nbase_url {self._chat.settings.base_url} is no longer set: {provider} has a server of its own."
            self._chat.set("base_url", "none")
        self._chat.set("model", model)
        show(Note(self._used() + note))

    def _checked(self, model: str, base_url: str) -> AsyncProvider:
        """Return the provider of a model; raises if the model cannot be asked."""
        return self._chat.call((Message("user", "-"),), CallOptions(model=model, base_url=base_url)).provider

    def _used(self) -> str:
        """Return the model that is set, and the address that it goes to if it is not the provider's own."""
        call = self._chat.call((Message("user", "-"),), CallOptions())
        endpoint = call.provider.endpoint
        where = f" at {endpoint.base_url} (from {endpoint.origin})" if endpoint.origin not in ("", "built in") else ""
        return f"Model: {call.model}{where}"

    def _do_key(self, rest: str) -> None:
        from .key_command import KeyCommand  # rarely needed

        show(Note(KeyCommand(self._chat).run(rest)))

    def _do_set(self, rest: str) -> None:
        words = words_of("set", rest, least=0, most=2)
        if len(words) == 2:
            self._chat.set(*words)
        file = str(config_path(self._chat.settings.environ))
        rows = [
            (name, value or "(not set)", "config.toml" if origin == file else origin)
            for name, value, origin in effective_settings(self._chat.settings)
        ]
        if words:
            wanted = setting_name(words[0]).removesuffix("_s")
            rows = [row for row in rows if row[0] == wanted]
            if not rows:
                self._chat.set(words[0], "default")  # raises, and names the nearest setting
        note = "" if words else f"%aichat set OPTION VALUE changes a setting, VALUE default undoes that. {file}"
        show(Table("" if words else "Settings", ("setting", "value", "from"), tuple(rows), note))

    def _do_config(self, rest: str) -> None:
        words_of("config", rest, least=0, most=0)
        # This must work even if the file cannot be read, because it is how users find the file.
        path = config_path(os.environ)
        state = "" if path.is_file() else " (not there yet; every setting has a default)"
        show(Note(f"{path}{state}\n\n{manual.page('settings')}\n\nKeys: %aichat help keys"))

    def _do_models(self, rest: str) -> None:
        words = words_of("models", rest, least=0, most=1)
        settings = self._chat.settings
        wanted = words[0] if words else ""
        provider, _, needle = wanted.partition("/")
        if provider not in self._chat.registry.names(settings):
            provider, needle = self._provider_of(settings), wanted
        route = self._chat.registry.resolve(f"{provider}/any", settings, allow_not_working=True)
        found = [model for model in run_sync(route.provider.models()) if needle.lower() in model.lower()]
        aliases = [(f"{alias} (alias)", target) for alias, target in settings.aliases.items() if wanted in alias]
        self._listed |= {f"{provider}/{model}": None for model in found}
        rows = tuple((f"{provider}/{model}", "") for model in found) + tuple(aliases)
        note = "" if rows else f"{provider} lists no model{f' with {needle!r}' if needle else ''}."
        show(Table(f"Models of {provider}", ("model", "stands for") if aliases else ("model",),
                   rows if aliases else tuple(row[:1] for row in rows), note))  # fmt: skip

    def _provider_of(self, settings: Settings) -> str:
        """Return the provider of the current model, which may be the address of a server without a model."""
        model = settings.model_for()
        return model if model == "openai" else self._chat.registry.resolve(model, settings).provider.name

    def _do_providers(self, rest: str) -> None:
        settings = self._chat.settings
        rows = []
        for name in self._chat.registry.names(settings):
            rows.append(self._provider_row(name))
        show(Table("Providers", ("provider", "key", "state", "address"), tuple(rows),
                   "A key: %aichat key PROVIDER. Another server: %aichat use MODEL --base-url URL"))  # fmt: skip

    def _provider_row(self, name: str) -> tuple[str, str, str, str]:
        settings = self._chat.settings
        registry = self._chat.registry
        try:
            cls, preset = registry.provider_class(name, settings), registry.preset(name, settings)
            state = "" if cls.working and not (preset and preset.ended) else "not working"
            if preset is None:
                return name, "not needed", state, "in this process"
            is_elsewhere = bool(settings.configured_address(name)[0])
            missing = f"set {preset.key_env}" if preset.needs_key and not is_elsewhere else "-"
            if not settings.search(name, preset).has_address and not is_elsewhere:
                return name, missing, state, f"set {' or '.join(preset.variables)}"
            route = registry.resolve(f"{name}/any", settings, allow_not_working=True, is_dry=True)
            endpoint = route.provider.endpoint
            return name, f"from {endpoint.key_origin}" if endpoint.key_origin else missing, state, endpoint.base_url
        except AichatError as error:
            return name, "", shorten(str(error), 60), ""

    def _do_chats(self, rest: str) -> None:
        words_of("chats", rest, least=0, most=0)
        current = self._history.current
        rows = [
            _chat_row(f"{'*' if found.name == current else ' '} {found.name}", found)
            for found in self._history.listed()
        ]
        if not any(name == f"* {current}" for name, *_ in rows):
            rows.insert(0, (f"* {current}", 0, "", "(empty)"))
        lifetime = self._history.lifetime_text()
        note = f"* is the current one, {lifetime}. %aichat switch NAME changes it, -c NAME does so for one cell."
        if older := self._history.older():
            rows += [_chat_row(f"  {name}", found) for name, found in older]
            note += f" {MAIN}@... had these cells or this file name before; switch continues a copy of it in {MAIN}."
        show(Table("Conversations", ("name", "turns", "last", "begins with"), tuple(rows), note))

    def _do_show(self, rest: str) -> None:
        words = words_of("show", rest, least=0, most=1)
        conversation = self._history.existing(words[0] if words else self._history.current)
        history = conversation.history("", budget_tokens=2**62)
        show(
            Transcript(
                title=f"Conversation {conversation.name!r}", messages=history.messages[:-1], note="", is_exact=False
            )
        )

    def _do_switch(self, rest: str) -> None:
        name = named(*words_of("switch", rest, least=1, most=1))
        if self._history.is_older(name):
            turns = counted(self._history.continue_from(name), "turn")
            show(Note(f"Conversation: {MAIN} ({turns}), continued from {name}, which stays as it is."))
            return
        is_begun = self._history.is_begun(name)
        others = [found.name for found in self._history.listed()]
        self._history.current = name
        if is_begun or name == MAIN:
            show(Note(f"Conversation: {name} ({counted(len(self._history.load(name)), 'turn')})"))
        else:
            show(Note(f"New conversation: {name}.{did_you_mean(name, others)}"))

    def _do_undo(self, rest: str) -> None:
        words = words_of("undo", rest, least=0, most=1)
        if words and not words[0].isdecimal():
            raise BadInputError(f"undo takes a number of turns, 1 or more, not {shorten(words[0], 40)!r}.")
        conversation = self._history.load(self._history.current)
        before = conversation.turns
        taken = conversation.undo(int(words[0]) if words else 1)
        self._history.rewind(conversation, before)
        show(Note(f"Removed {counted(taken, 'turn')} from {conversation.name!r}; {len(conversation)} left."))

    def _do_fork(self, rest: str) -> None:
        name = named(*words_of("fork", rest, least=1, most=1))
        if self._history.is_begun(name):
            raise BadInputError(f"There is a conversation {name!r} already. Choose another name.")
        conversation = self._history.load(self._history.current)
        if self._history.is_begun(conversation.name):  # the copy in the store includes the system message
            self._history.store.fork(*self._history.key(conversation.name), *self._history.key(name))
        self._history.current = name
        show(Note(f"Conversation: {name}, a copy with {counted(len(conversation), 'turn')}"))

    def _do_reset(self, rest: str) -> None:
        words = words_of("reset", rest, least=0, most=1)
        conversation = self._history.existing(words[0] if words else self._history.current)
        before = conversation.turns
        conversation.reset()
        self._history.rewind(conversation, before)
        show(Note(f"Conversation {conversation.name!r} starts over. %aichat search TEXT still finds its old turns."))

    def _do_delete(self, rest: str) -> None:
        (name,) = words_of("delete", rest, least=1, most=1)
        self._history.existing(name)
        self._history.store.delete(*self._history.key(name))
        if was_current := name == self._history.current:
            self._history.current = MAIN
        show(Note(f"Deleted conversation {name!r}.{f' The current one is now {MAIN!r}.' if was_current else ''}"))

    def _do_search(self, rest: str) -> None:
        if not rest:
            raise BadInputError("Write it as: %aichat search TEXT")
        rows = tuple(
            (
                self._history.name_with_owner(found),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(found.turn.created)),
                shorten(found.excerpt, 60),
            )
            for found in self._history.store.search(rest)
        )
        note = "Everything that is stored was searched, also from other notebooks and earlier terminals."
        note = note if rows else f"Nothing found. {note}"
        show(Table(f"Turns with {shorten(rest, 40)!r}", ("conversation", "when", "text"), rows, note))

    def _do_export(self, rest: str) -> None:
        from . import export as transcripts  # seldom wanted

        words = words_of("export", rest, least=1, most=2)
        conversation = self._history.existing(words[1] if len(words) > 1 else self._history.current)
        written = transcripts.export(
            Path(words[0]), conversation.name, conversation.system, self._history.records(conversation.name)
        )
        show(Note(f"Wrote {counted(len(conversation), 'turn')} of {conversation.name!r} to {written}."))

    def _do_import(self, rest: str) -> None:
        from . import export as transcripts  # seldom wanted

        words = words_of("import", rest, least=1, most=2)
        path = Path(words[0])
        name = named(words[1] if len(words) > 1 else path.stem)
        if self._history.is_begun(name):
            raise BadInputError(
                f"There is a conversation {name!r} already. Choose another name: %aichat import FILE NAME"
            )
        system, records = transcripts.read(path)
        self._history.import_turns(name, system, records)
        self._history.current = name
        show(Note(f"Conversation: {name} ({counted(len(records), 'turn')})"))

    def _do_store(self, rest: str) -> None:
        wanted = parse_store(rest)
        store = self._chat.store
        if wanted.action == "clear":
            vectors = store.summary().vectors
            show(Note(f"Removed {_removed(store.clear(), vectors)}."))
            return
        before = store.summary()
        if wanted.action == "prune":
            removed = store.prune(older_s=wanted.older_s, larger_bytes=wanted.larger_bytes)
            show(Note(_pruned(removed, before, store.summary())))
            return
        rows = (
            ("replies", f"{before.rows:,}"),
            *([("vectors", f"{before.vectors:,}")] if before.vectors else []),
            ("size", _megabytes(before.size_bytes)),
            ("location", str(before.path) if before.path else "memory"),
            ("oldest", f"{before.oldest:%Y-%m-%d %H:%M}" if before.oldest else "-"),
        )
        note = (
            f"None is removed automatically; above {_megabytes(before.soft_limit_bytes)} a run adds a note. "
            f"%aichat store prune --older 90d (or --larger 500MB) removes the oldest, %aichat store clear removes all."
        )
        show(Table("Stored replies of runs over tables", ("", ""), rows, note))

    def _do_usage(self, rest: str) -> None:
        words = words_of("usage", rest, least=0, most=1)
        period = words[0] if words else "session"
        if period not in _PERIODS_S and period != "session":
            raise BadInputError(
                f"The period of %aichat usage is session, day, month or all, not {shorten(period, 20)!r}."
            )
        if period == "session":
            rows = [(model, "", used.replies, used.usage) for model, used in self._totals.by_model().items()]
        else:
            since = None if period == "all" else time.time() - _PERIODS_S[period]
            rows = [(row.model, row.conversation, row.replies, row.usage) for row in self._history.store.usage(since)]
        show(usage_table(period, rows))


def _pruned(removed: int, before: StoreSummary, after: StoreSummary) -> str:
    """Return a sentence on which stored replies were removed, and which are left."""
    if not removed:
        return f"Nothing to remove: {_left(after)}."
    oldest = f"; the oldest was from {before.oldest:%Y-%m-%d %H:%M}" if before.oldest else ""
    text = f"Removed {_removed(removed, before.vectors - after.vectors)}{oldest}. Left: {_left(after)}."
    if after.path is not None and after.size_bytes >= before.size_bytes:
        text += (
            " The file did not shrink (another program reads it, or the disk is full); its free space will be reused."
        )
    return text


def _removed(count: int, vectors: int) -> str:
    """Return how many replies and vectors were removed, of so many together."""
    replies = counted(count - vectors, "stored reply", "stored replies")
    return f"{replies} and {counted(vectors, 'vector')}" if vectors else replies


def _left(summary: StoreSummary) -> str:
    oldest = f", the oldest from {summary.oldest:%Y-%m-%d %H:%M}" if summary.oldest else ""
    vectors = f" and {counted(summary.vectors, 'vector')}" if summary.vectors else ""
    return f"{counted(summary.rows, 'reply', 'replies')}{vectors}, {_megabytes(summary.size_bytes)}{oldest}"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def _chat_row(name: str, found: ConversationSummary) -> tuple[str, int, str, str]:
    """Return a row of the list of conversations."""
    updated = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.updated))
    return name, found.turns, updated, shorten(found.first_prompt, 40)
