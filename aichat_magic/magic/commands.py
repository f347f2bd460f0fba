"""What `%aichat` lines do that ask no model: settings, models, conversations, totals."""

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
from ..core.sync import run
from ..store.base import StoreSummary
from ..store.conversations import ConversationSummary
from ..text.terminal import show
from ..text.widgets import Note, Table, Transcript
from ..text.words import nearest, shorten
from . import help as manual
from .arguments import parse_store, words_of
from .context.templates import PromptTemplate
from .history import ChatHistory, named
from .notebook_identity import MAIN
from .template_commands import prompt_template_table
from .usage import UsageTotals, counted, usage_table

_PERIODS_S = {"day": 86_400.0, "month": 30 * 86_400.0, "all": 0.0}


class Commands:
    """The commands of a session; each method is called with what follows its command's name."""

    def __init__(
        self,
        chat: Chat,
        talks: ChatHistory,
        totals: UsageTotals,
        prompt_templates: Callable[[], Mapping[str, PromptTemplate]],
    ) -> None:
        """Take what they work on.

        Args:
            chat: Settings, providers, stored replies.
            talks: The conversations.
            totals: What was used.
            prompt_templates: Reads the prompt templates.
        """
        self._chat = chat
        self._talks = talks
        self._totals = totals
        self._recipes = prompt_templates
        self._listed: dict[str, None] = {}

    @property
    def listed_models(self) -> tuple[str, ...]:
        """Models that a server has named."""
        return tuple(self._listed)

    def run(self, name: str, rest: str) -> None:
        """Carry one out.

        Args:
            name: One of `arguments.COMMANDS` that asks no model; empty: the state of the session.
            rest: What follows it.

        Raises:
            AichatError: It cannot be understood or carried out.
        """
        getattr(self, f"_do_{name or 'status'}")(rest)

    def _do_status(self, rest: str) -> None:
        talks = self._talks
        rows = (
            ("model", self._chat.settings.model),
            ("conversation", f"{talks.current} ({counted(len(talks.load(talks.current)), 'turn')}), {talks.lasting()}"),
            ("this session", self._totals.line()),
        )
        show(Table("aichat", ("", ""), rows, "%aichat help shows the commands; %aichat doctor checks the setup."))

    def _do_help(self, rest: str) -> None:
        show(Note(manual.page(rest, variables=self._key_variables())))

    def _key_variables(self) -> dict[str, str]:
        """The environment variable of each provider's key; a setting that cannot be used does not keep help away."""
        registry, found = self._chat.registry, {}
        try:
            settings = self._chat.settings
        except AichatError:
            settings = Settings()
        for name in registry.names(settings):
            with contextlib.suppress(AichatError):
                preset = registry.preset(name, settings)
                found[name] = preset.key_env if preset else ""
        return found

    def _do_doctor(self, rest: str) -> None:
        from . import doctor  # seldom wanted

        words_of("doctor", rest, least=0, most=0)
        show(doctor.examine(self._chat, self._talks.place()))

    def _do_templates(self, rest: str) -> None:
        words_of("templates", rest, least=0, most=0)
        folder = config_path(self._chat.settings.environ).parent / "templates"
        show(prompt_template_table(self._recipes(), str(folder)))

    def _do_use(self, rest: str) -> None:
        (model,) = words_of("use", rest, least=1, most=1)
        call = self._chat.call((Message("user", "-"),), CallOptions(model=model))  # refuses what cannot be asked
        self._chat.set("model", model)
        show(Note(f"Model: {call.model}"))

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
                self._chat.set(words[0], "none")  # says what it is not
        note = "" if words else f"%aichat set OPTION VALUE changes one, none takes it back. {file}"
        show(Table("" if words else "Settings", ("setting", "value", "from"), tuple(rows), note))

    def _do_config(self, rest: str) -> None:
        words_of("config", rest, least=0, most=0)
        # Also where the file cannot be read: this is how one finds it.
        path = config_path(os.environ)
        state = "" if path.is_file() else " (not there yet; every setting has a default)"
        show(Note(f"{path}{state}\n\n{manual.page('settings')}\n\nKeys: %aichat help keys"))

    def _do_models(self, rest: str) -> None:
        words = words_of("models", rest, least=0, most=1)
        settings = self._chat.settings
        wanted = words[0] if words else ""
        provider, _, needle = wanted.partition("/")
        if provider not in self._chat.registry.names(settings):
            provider, needle = self._chat.registry.resolve(settings.model, settings).provider.name, wanted
        route = self._chat.registry.resolve(f"{provider}/any", settings, allow_not_working=True)
        found = [model for model in run(route.provider.models()) if needle.lower() in model.lower()]
        aliases = [(f"{alias} (alias)", target) for alias, target in settings.aliases.items() if wanted in alias]
        self._listed |= {f"{provider}/{model}": None for model in found}
        rows = tuple((f"{provider}/{model}", "") for model in found) + tuple(aliases)
        note = "" if rows else f"{provider} names no model{f' with {needle!r}' if needle else ''}."
        show(Table(f"Models of {provider}", ("model", "stands for") if aliases else ("model",),
                   rows if aliases else tuple(row[:1] for row in rows), note))  # fmt: skip

    def _do_providers(self, rest: str) -> None:
        settings = self._chat.settings
        rows = []
        for name in self._chat.registry.names(settings):
            rows.append(self._provider_row(name))
        show(Table("Providers", ("provider", "key", "state", "address"), tuple(rows),
                   "Another OpenAI-compatible server: -m MODEL --base-url URL"))  # fmt: skip

    def _provider_row(self, name: str) -> tuple[str, str, str, str]:
        settings = self._chat.settings
        try:
            cls = self._chat.registry.provider_class(name, settings)
            preset = self._chat.registry.preset(name, settings)
            state = "" if cls.working else "not working"
            if preset is None:
                return name, "not needed", state, "in this process"
            address = settings.providers[name].base_url if name in settings.providers else ""
            key = "present" if settings.has_key(name, preset) else f"set {preset.key_env}" if preset.needs_key else "-"
            return name, key, state, address or preset.base_url
        except AichatError as error:
            return name, "", shorten(str(error), 60), ""

    def _do_chats(self, rest: str) -> None:
        words_of("chats", rest, least=0, most=0)
        current = self._talks.current
        rows = [
            _chat_row(f"{'*' if found.name == current else ' '} {found.name}", found) for found in self._talks.listed()
        ]
        if not any(name == f"* {current}" for name, *_ in rows):
            rows.insert(0, (f"* {current}", 0, "", "(nothing was said yet)"))
        note = f"* the current one: {self._talks.lasting()}. %aichat switch NAME goes to another, -c NAME for one cell."
        if older := self._talks.older():
            rows += [_chat_row(f"  {name}", found) for name, found in older]
            note += f" {MAIN}@...: older ones of these cells or this name; switch lets {MAIN} go on from there."
        show(Table("Conversations", ("name", "turns", "last", "begins with"), tuple(rows), note))

    def _do_show(self, rest: str) -> None:
        words = words_of("show", rest, least=0, most=1)
        talk = self._talks.existing(words[0] if words else self._talks.current)
        history = talk.history("", budget_tokens=2**62)
        show(Transcript(title=f"Conversation {talk.name!r}", messages=history.messages[:-1], note="", is_exact=False))

    def _do_switch(self, rest: str) -> None:
        name = named(*words_of("switch", rest, least=1, most=1))
        if self._talks.is_older(name):
            turns = counted(self._talks.take_up(name), "turn")
            show(Note(f"Conversation: {MAIN} ({turns}), taken up from {name}, which stays as it is."))
            return
        is_begun = self._talks.is_begun(name)
        others = [found.name for found in self._talks.listed()]
        self._talks.current = name
        if is_begun or name == MAIN:
            show(Note(f"Conversation: {name} ({counted(len(self._talks.load(name)), 'turn')})"))
        else:
            show(Note(f"New conversation: {name}.{nearest(name, others)}"))

    def _do_undo(self, rest: str) -> None:
        words = words_of("undo", rest, least=0, most=1)
        if words and not words[0].isdecimal():
            raise BadInputError(f"undo takes a number of turns from 1, not {shorten(words[0], 40)!r}.")
        talk = self._talks.load(self._talks.current)
        before = talk.turns
        taken = talk.undo(int(words[0]) if words else 1)
        self._talks.rewind(talk, before)
        show(Note(f"Took {counted(taken, 'turn')} out of {talk.name!r}; {len(talk)} left."))

    def _do_fork(self, rest: str) -> None:
        name = named(*words_of("fork", rest, least=1, most=1))
        if self._talks.is_begun(name):
            raise BadInputError(f"There is a conversation {name!r} already. Choose another name.")
        talk = self._talks.load(self._talks.current)
        if self._talks.is_begun(talk.name):  # its system message goes along
            self._talks.store.fork(*self._talks.key(talk.name), *self._talks.key(name))
        self._talks.current = name
        show(Note(f"Conversation: {name}, a copy with {counted(len(talk), 'turn')}"))

    def _do_reset(self, rest: str) -> None:
        words = words_of("reset", rest, least=0, most=1)
        talk = self._talks.existing(words[0] if words else self._talks.current)
        before = talk.turns
        talk.reset()
        self._talks.rewind(talk, before)
        show(Note(f"Conversation {talk.name!r} begins afresh. What was said stays in the file: %aichat search TEXT"))

    def _do_delete(self, rest: str) -> None:
        (name,) = words_of("delete", rest, least=1, most=1)
        self._talks.existing(name)
        self._talks.store.delete(*self._talks.key(name))
        if was_current := name == self._talks.current:
            self._talks.current = MAIN
        show(Note(f"Conversation {name!r} is gone.{f' The current one is {MAIN!r}.' if was_current else ''}"))

    def _do_search(self, rest: str) -> None:
        if not rest:
            raise BadInputError("Write it as: %aichat search TEXT")
        rows = tuple(
            (
                self._talks.name_with_owner(found),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(found.turn.created)),
                shorten(found.excerpt, 60),
            )
            for found in self._talks.store.search(rest)
        )
        note = "All that is stored was searched, other notebooks and earlier terminals included." if rows else "None."
        show(Table(f"Turns with {shorten(rest, 40)!r}", ("conversation", "when", "text"), rows, note))

    def _do_export(self, rest: str) -> None:
        from . import export as transcripts  # seldom wanted

        words = words_of("export", rest, least=1, most=2)
        talk = self._talks.existing(words[1] if len(words) > 1 else self._talks.current)
        written = transcripts.export(Path(words[0]), talk.name, talk.system, self._talks.records(talk.name))
        show(Note(f"Wrote {counted(len(talk), 'turn')} of {talk.name!r} to {written}."))

    def _do_import(self, rest: str) -> None:
        from . import export as transcripts  # seldom wanted

        words = words_of("import", rest, least=1, most=2)
        path = Path(words[0])
        name = named(words[1] if len(words) > 1 else path.stem)
        if self._talks.is_begun(name):
            raise BadInputError(f"There is a conversation {name!r} already. Name another: %aichat import FILE NAME")
        system, records = transcripts.read(path)
        self._talks.bring(name, system, records)
        self._talks.current = name
        show(Note(f"Conversation: {name} ({counted(len(records), 'turn')})"))

    def _do_store(self, rest: str) -> None:
        wanted = parse_store(rest)
        store = self._chat.store
        if wanted.action == "clear":
            show(Note(f"Removed {counted(store.clear(), 'stored reply', 'stored replies')}."))
            return
        before = store.summary()
        if wanted.action == "prune":
            removed = store.prune(older_s=wanted.older_s, larger_bytes=wanted.larger_bytes)
            show(Note(_pruned(removed, before, store.summary())))
            return
        rows = (
            ("replies", f"{before.rows:,}"),
            ("size", _megabytes(before.size_bytes)),
            ("place", str(before.path) if before.path else "memory"),
            ("oldest", f"{before.oldest:%Y-%m-%d %H:%M}" if before.oldest else "-"),
        )
        note = (
            f"None is removed by itself; above {_megabytes(before.soft_limit_bytes)} a run says so in a line. "
            f"%aichat store prune --older 90d (or --larger 500MB) removes the oldest, %aichat store clear all."
        )
        show(Table("Stored replies of runs over tables", ("", ""), rows, note))

    def _do_usage(self, rest: str) -> None:
        words = words_of("usage", rest, least=0, most=1)
        period = words[0] if words else "session"
        if period not in _PERIODS_S and period != "session":
            raise BadInputError(f"%aichat usage takes session, day, month or all, not {shorten(period, 20)!r}.")
        if period == "session":
            rows = [(model, "", used.replies, used.usage) for model, used in self._totals.by_model().items()]
        else:
            since = None if period == "all" else time.time() - _PERIODS_S[period]
            rows = [(row.model, row.conversation, row.replies, row.usage) for row in self._talks.store.usage(since)]
        show(usage_table(period, rows))


def _pruned(removed: int, before: StoreSummary, after: StoreSummary) -> str:
    """Say what was removed from the stored replies, and what is left."""
    if not removed:
        return f"Nothing to remove: {_left(after)}."
    oldest = f"; the oldest was of {before.oldest:%Y-%m-%d %H:%M}" if before.oldest else ""
    text = f"Removed {counted(removed, 'stored reply', 'stored replies')}{oldest}. Left: {_left(after)}."
    if after.path is not None and after.size_bytes >= before.size_bytes:
        text += " The file keeps its size while another program reads it or the disk is full; its space is used again."
    return text


def _left(summary: StoreSummary) -> str:
    oldest = f", the oldest of {summary.oldest:%Y-%m-%d %H:%M}" if summary.oldest else ""
    return f"{counted(summary.rows, 'reply', 'replies')}, {_megabytes(summary.size_bytes)}{oldest}"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def _chat_row(name: str, found: ConversationSummary) -> tuple[str, int, str, str]:
    """A line of the list of conversations."""
    updated = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.updated))
    return name, found.turns, updated, shorten(found.first_prompt, 40)
