"""What `%%aichat` cells and `%aichat` lines do: the conversations of a session, its totals, its commands."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import CellArguments, cell_manual, line_manual, parse_cell, parse_command, words_of
from .asides import ASIDES, Notebook, aside, put_code_below, recipe_table
from .bridge import run
from .chat import Call, Chat
from .conversation import Conversation, History, Turn
from .display import ReplyView, show
from .errors import AichatError, BadInputError, ChatInterrupt, UnknownNameError, nearest, shorten
from .includes import Included, included
from .jsontext import SchemaError
from .messages import Draft, FinishReason, Image, Message, Reply, Usage, estimate_tokens
from .prompts import Filled, fill
from .recipes import Recipe, recipes
from .render import Note, Table, Transcript, money
from .runs import BatchRun, check_columns
from .settings import Given, config_path, setting_names
from .shaping import Shape, reply_in_shape, shape_of
from .store.conversations import ConversationStore, MemoryConversations, StoredTurn, TurnRecord

if TYPE_CHECKING:
    from .completion import Known

_MAIN = "main"
_SILENCE_S = 1.0
_PERIODS_S = {"day": 86_400.0, "month": 30 * 86_400.0, "all": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a cell runs.

    Attributes:
        scope: To whom the conversation `main` belongs: a notebook, a kernel, a terminal.
        notebook: Path of the notebook, where the front end tells it.
        cell_id: The notebook's name for the cell, where the front end tells it.
        is_notebook: Whether cells can be run again in their place.
        execution: Which execution of a cell this is, as the front end counts; 0: it does not tell.
    """

    scope: str = "here"
    notebook: str = ""
    cell_id: str = ""
    is_notebook: bool = False
    execution: int = 0


@dataclass(frozen=True, slots=True)
class _Tally:
    """What one model has been asked in this session."""

    replies: int
    usage: Usage


class Session:
    """One notebook's or terminal's talk with models."""

    def __init__(
        self,
        chat: Chat,
        variables: MutableMapping[str, Any],
        *,
        view: Callable[[bool], ReplyView],
        shown: Callable[[Reply], None],
        place: Callable[[], Place] = lambda: Place(),
        store: Callable[[], ConversationStore] = MemoryConversations,
        notebook: Notebook | None = None,
    ) -> None:
        """Begin.

        Args:
            chat: Who asks.
            variables: The notebook's variables: placeholders are filled from them, `--output` is put into them.
            view: Makes the view of one reply; told whether the text is shown while it grows.
            shown: Told of each reply that its view has shown in full.
            place: Tells which cell of which notebook is running.
            store: Opens where conversations are kept from one session to the next; called at the first turn.
            notebook: Its cells, and the way to put one below.
        """
        self._chat = chat
        self._variables = variables
        self._view = view
        self._shown = shown
        self._place = place
        self._notebook = notebook or Notebook()
        self._open_store = store
        self._stored: ConversationStore | None = None
        self._memory = MemoryConversations()
        # Images are sent again with later turns, but not written to the file.
        self._images: dict[int, tuple[Image, ...]] = {}
        self._current = "main"
        self._tallies: dict[str, _Tally] = {}
        self._counting = threading.Lock()
        # Conversation and name of the turns that the running execution of a cell has made.
        self._execution = 0
        self._made: set[tuple[str, str]] = set()
        self._listed: dict[str, None] = {}
        self._told: set[str] = set()
        self._last_error: BaseException | None = None

    def cell(self, line: str, cell: str) -> Reply | BatchRun | None:
        """One `%%aichat` cell.

        Args:
            line: What follows ``%%aichat``.
            cell: The prompt.

        Returns:
            The reply, or the run of `--batch`; None for `--help` and `--dry-run`.

        Raises:
            AichatError: Nothing was kept then.
            ChatInterrupt: The user interrupted; nothing was kept.
        """
        self._see_last_error()
        return self._cell(parse_cell(line), cell)

    def command(self, line: str) -> Reply | BatchRun | None:
        """One `%aichat` line.

        Args:
            line: What follows ``%aichat``.

        Returns:
            The reply of `ask` and of what asks by a template; None for every other command.

        Raises:
            AichatError: The command cannot be understood or carried out.
        """
        self._see_last_error()
        name, rest = parse_command(line)
        if name == "ask":
            return self._cell(CellArguments(given=Given()), rest, is_line=True)
        if name in ASIDES:
            return self._aside(name, rest)
        getattr(self, f"_do_{name or 'status'}")(rest)
        return None

    def known(self, variables: Mapping[str, Any]) -> Known:
        """What Tab may offer: all of it is looked up when it is asked for, and no server is asked.

        Args:
            variables: The notebook's variables, as far as they are offered.
        """
        from .completion import Known, models_known  # only Tab needs it

        chat = self._chat
        return Known(
            variables=variables,
            models=lambda: models_known(chat.registry, chat.settings, (*self._tallies, *self._listed)),
            conversations=lambda: [_MAIN, *(found.name for found in self._store.names(self._place().scope))],
            templates=lambda: {name: recipe.placeholders for name, recipe in self._recipes().items()},
            settings=setting_names,
        )

    # The cell ---------------------------------------------------------------------------------------------------

    def _cell(
        self, arguments: CellArguments, cell: str, *, is_line: bool = False, prompt: Filled | None = None
    ) -> Reply | BatchRun | None:
        """One turn, from the text of a cell."""
        if arguments.is_help:
            show(Note(cell_manual()))
            return None
        if arguments.batch:
            return self._batch(arguments, cell.removesuffix("\n"))
        prompt = prompt or self._prompt(arguments, cell)
        data = included(arguments.include, self._variables, attached=arguments.attach, last_error=self._last_error)
        text, images = data.before(prompt.text), data.images + prompt.images
        shape = shape_of(arguments.format, arguments.schema, self._variables)
        asked, given = self._in_shape(shape, text, arguments.given)
        name = arguments.chat or self._current
        kept = self._talk(name)
        cell_id = self._cell_id(cell, name, is_line=is_line)
        place = None if arguments.is_without_history else kept.place_of(cell_id)
        if arguments.is_new or arguments.is_without_history:
            # Nothing is sent before it. Run again, the cell that began a conversation replaces its first turn.
            place = 0 if place == 0 else None
            talk = Conversation(name=name, system=kept.system, chat=self._chat)
        else:
            talk = kept
        call, history = talk.call(asked, given, images=images, place=place)
        if arguments.is_dry_run:
            self._show_dry_run(call, history)
            return None
        view = self._view(arguments.is_streamed and shape.is_streamed)
        for line in self._remarks(prompt, data, history, name):
            view.note(line)
        reply, problem = self._asked(call, view, shape)
        self._count(reply.model, reply.usage)
        if arguments.output:
            self._variables[arguments.output] = reply
        if problem:
            place_of_text = f"{arguments.output}.text" if arguments.output else "the text above"
            raise SchemaError(f"The reply is not what was asked for{problem}. It is in {place_of_text}.")
        if not arguments.is_without_history:
            self._keep(kept, Turn(text, reply, cell_id, images=images), call, arguments, place)
        if arguments.is_code:
            show(Note(put_code_below(reply.text, self._notebook)))
        return reply

    def _recipes(self) -> dict[str, Recipe]:
        """The prompt templates, those of the user among them."""
        return recipes(config_path(self._chat.settings.environ).parent)

    def _aside(self, command: str, rest: str) -> Reply | BatchRun | None:
        """A question by a template, beside the conversation."""
        asked = aside(
            command,
            rest,
            self._recipes(),
            variables=self._variables,
            notebook=self._notebook,
            error=self._last_error,
        )
        return self._cell(asked.arguments, asked.prompt.text, is_line=True, prompt=asked.prompt)

    def _keep(self, talk: Conversation, turn: Turn, call: Call, arguments: CellArguments, place: int | None) -> None:
        """Store a whole turn: at the end of its conversation, or in place of the one that its cell made before."""
        if not turn.reply.is_complete:
            return
        record = TurnRecord(
            prompt=turn.prompt,
            reply=turn.reply,
            options=call.request.options.sent(),
            cell_id=turn.cell_id,
            notebook=self._place().notebook,
        )
        scope = self._scope(talk.name)
        if place is None:
            system = arguments.given.system or talk.system
            stored = self._store.append(scope, talk.name, record, system=system, is_new=arguments.is_new)
        else:
            number = talk.turns[place].number
            stored = self._store.replace(scope, talk.name, number, record, system=arguments.given.system)
        if self._execution:
            self._made.add((talk.name, turn.cell_id))
        if turn.images:
            self._images[stored.id] = turn.images

    # Conversations ------------------------------------------------------------------------------------------------

    @property
    def _store(self) -> ConversationStore:
        """Where conversations are kept: in a file, or for this session only."""
        if not self._chat.settings.keep_history:
            return self._memory
        if self._stored is None:
            self._stored = self._open_store()
        return self._stored

    def _scope(self, name: str) -> str:
        """To whom a conversation belongs: `main` to its notebook, every other one to all."""
        return self._place().scope if name == _MAIN else ""

    def _talk(self, name: str) -> Conversation:
        """A conversation as it stands now, whoever added to it; a new one where there is none."""
        stored = self._store.load(self._scope(name), name)
        if stored is None:
            return Conversation(name=name, chat=self._chat)
        turns = (
            Turn(turn.prompt, turn.reply, turn.cell_id, turn.id, self._images.get(turn.id, ())) for turn in stored.turns
        )
        return Conversation(name=name, system=stored.system, chat=self._chat, turns=turns)

    def _existing(self, name: str) -> Conversation:
        """A conversation that somebody has begun; the current one always counts."""
        if name != self._current and self._store.load(self._scope(name), name) is None:
            known = [found.name for found in self._store.names(self._place().scope)]
            raise UnknownNameError(
                f"There is no conversation {shorten(name, 40)!r}.{nearest(name, known)} %aichat chats lists them."
            )
        return self._talk(name)

    def _cell_id(self, prompt: str, talk: str, *, is_line: bool) -> str:
        """What tells that a cell is run again, so that its turn is replaced; empty: every run is a new turn.

        A notebook names its cells. One that does not is told by the prompt itself. Lines of `ask` share a cell, so that
        the prompt is part of their name. One execution of a cell may ask several times, in a loop: each call makes its
        own turn. In a terminal everything is new.
        """
        place = self._place()
        if not place.is_notebook:
            return ""
        parts = [place.scope, place.cell_id]
        if is_line or not place.cell_id:
            parts.append(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16])
        if place.execution != self._execution:
            self._execution = place.execution
            self._made.clear()
        first = cell_id = "#".join(parts)
        count = 1
        while (talk, cell_id) in self._made:
            count += 1
            cell_id = f"{first}#{count}"
        return cell_id

    def _batch(self, arguments: CellArguments, template: str) -> BatchRun | None:
        """One run over the rows of a table. Whatever stops it, the finished rows are in the column."""
        frame: Any = self._variables.get(arguments.batch)
        if not hasattr(frame, "columns") or not hasattr(frame, "aichat"):
            known = [name for name, value in self._variables.items() if hasattr(value, "columns") and name[0] != "_"]
            raise UnknownNameError(
                f"--batch takes the name of a DataFrame; {shorten(arguments.batch, 40)!r} is none."
                f"{nearest(arguments.batch, known)}"
            )
        if arguments.into:
            check_columns(frame, arguments.into)
        keywords = {**arguments.batch_options, **arguments.given.keywords()}
        if arguments.is_dry_run:
            show(Note(str(frame.aichat.estimate(template, **keywords))))
            return None
        failed: AichatError | ChatInterrupt | None = None
        try:
            result: BatchRun = frame.aichat.run(template, **keywords)
        except ChatInterrupt as error:
            failed, result = error, frame.aichat.last_run
        else:
            failed = result.stop_error()
        if arguments.output:
            self._variables[arguments.output] = result
        for model, usage, replies in result.tally():
            self._count(model, usage, replies)
            self._store.record_run(model, usage, replies)
        # A run that has answered nothing leaves a column as it was.
        is_useful = failed is None or any(text is not None for text in result.texts())
        if arguments.into and (is_useful or arguments.into not in frame.columns):
            result.put_into(frame, arguments.into)
        if failed is not None:
            raise failed
        return result

    def _prompt(self, arguments: CellArguments, cell: str) -> Filled:
        """The cell's text, its placeholders filled from the notebook."""
        text = cell.removesuffix("\n")
        if arguments.is_raw:
            return Filled(text, (), ())
        return fill(text, self._variables, is_strict=arguments.is_strict)

    def _in_shape(self, shape: Shape, prompt: str, given: Given) -> tuple[str, Given]:
        """The prompt and the options that ask for a form. The words that do are no part of the conversation."""
        provider = self._chat.call((Message("user", "-"),), given).provider if shape.schema else None
        return shape.asked(prompt, given, supports_schema=provider is not None and provider.supports_schema)

    def _see_last_error(self) -> None:
        """Remember the notebook's last exception, before one of ours takes its place."""
        error: BaseException | None = getattr(sys, "last_value", None)
        if error is not None and not isinstance(error, (AichatError, ChatInterrupt)):
            self._last_error = error

    def _remarks(self, prompt: Filled, data: Included, history: History, name: str) -> Iterator[str]:
        """What the user should know of the prompt before the reply comes."""
        parts = {
            "included": data.remarks,
            "filled": prompt.remarks,
            "left as text": tuple(f"{{{name}}}" for name in prompt.left),
        }
        if line := " · ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names):
            yield line
        if history.left_out and name not in self._told:
            self._told.add(name)
            yield (
                f"The {history.left_out} oldest turns of {name!r} no longer fit and are not sent. "
                f"More: %aichat set max_history_tokens N; afresh: --new"
            )

    def _asked(self, call: Call, view: ReplyView, shape: Shape) -> tuple[Reply, str]:
        """The reply, shown while it grows, and what is wrong with its form.

        What arrived before an error or an interrupt stays visible.
        """
        is_notebook = self._place().is_notebook
        draft = Draft()
        failed: BaseException | None = None

        def update(text: str) -> None:
            if shape.is_streamed:
                view.update(shape.shown(text, is_notebook=is_notebook))

        async def asked(call: Call) -> Reply:
            nonlocal draft
            draft = Draft()
            # A cell that shows nothing looks as if nothing was going on.
            loop = asyncio.get_running_loop()
            silence = loop.call_later(_SILENCE_S, view.status, f"Waiting for {call.model}")
            try:
                return await self._chat.reply(call, draft, status=view.status, show=update)
            finally:
                silence.cancel()

        try:
            reply, problem = run(reply_in_shape(asked, call, shape))
        except (AichatError, ChatInterrupt) as error:
            failed = error
        if failed is not None:
            reason: FinishReason = "interrupted" if isinstance(failed, ChatInterrupt) else "truncated"
            view.finish(
                draft.reply(model=call.model, elapsed_s=0.0, messages=call.request.messages, finish_reason=reason)
                if draft.text
                else None
            )
            raise failed
        view.finish(dataclasses.replace(reply, text=shape.shown(reply.text, is_notebook=is_notebook)))
        self._shown(reply)
        return reply, problem

    def _show_dry_run(self, call: Call, history: History) -> None:
        """What would be sent, exactly, and about how much it is."""
        options = ", ".join(f"{name}={value!r}" for name, value in call.request.options.sent().items())
        place = call.provider.endpoint.base_url or "this process"
        show(
            Transcript(
                title=f"Would go to {call.model} ({place}); nothing was sent",
                messages=history.messages,
                note=f"about {estimate_tokens(history.messages)} tokens" + (f" · {options}" if options else ""),
                is_exact=True,
            )
        )

    def _count(self, model: str, usage: Usage, replies: int = 1) -> None:
        """Add replies of a model to the totals of the session."""
        with self._counting:  # cells may ask from threads
            before = self._tallies.get(model)
            self._tallies[model] = (
                _Tally(replies, usage) if before is None else _Tally(before.replies + replies, before.usage + usage)
            )

    # The line ---------------------------------------------------------------------------------------------------

    def _do_status(self, rest: str) -> None:
        settings = self._chat.settings
        replies = sum(tally.replies for tally in self._tallies.values())
        turns = len(self._talk(self._current))
        show(
            Table(
                "aichat",
                ("", ""),
                (
                    ("model", settings.model),
                    ("conversation", f"{self._current} ({_counted(turns, 'turn')})"),
                    ("this session", f"{_counted(replies, 'reply', 'replies')}, {_tokens(self._totals())}"),
                ),
                "%aichat help shows all commands and flags.",
            )
        )

    def _do_help(self, rest: str) -> None:
        show(Note(f"{line_manual()}\n\n{cell_manual()}"))

    def _do_templates(self, rest: str) -> None:
        words_of("templates", rest, least=0, most=0)
        folder = config_path(self._chat.settings.environ).parent / "templates"
        show(recipe_table(self._recipes(), str(folder)))

    def _do_use(self, rest: str) -> None:
        (model,) = words_of("use", rest, least=1, most=1)
        route = self._chat.registry.route(model, self._chat.settings)
        self._chat.set("model", model)
        show(Note(f"Model: {route.name}"))

    def _do_set(self, rest: str) -> None:
        option, value = words_of("set", rest, least=2, most=2)
        self._chat.set(option, value)
        show(Note(f"{option}: {'****' if option == 'proxy' else value}"))

    def _do_models(self, rest: str) -> None:
        words = words_of("models", rest, least=0, most=1)
        settings = self._chat.settings
        wanted = words[0] if words else ""
        provider, _, needle = wanted.partition("/")
        if provider not in self._chat.registry.names(settings):
            provider, needle = self._chat.registry.route(settings.model, settings).provider.name, wanted
        route = self._chat.registry.route(f"{provider}/any", settings, allow_not_working=True)
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
        rows = tuple(
            (
                f"{'*' if found.name == self._current else ' '} {found.name}",
                found.turns,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(found.updated)),
                shorten(found.first_prompt, 40),
            )
            for found in self._store.names(self._place().scope)
        )
        note = "" if rows else "No conversation yet."
        show(Table("Conversations", ("name", "turns", "last", "begins with"), rows, note))

    def _do_show(self, rest: str) -> None:
        words = words_of("show", rest, least=0, most=1)
        talk = self._existing(words[0] if words else self._current)
        history = talk.history("", budget_tokens=2**62)
        show(Transcript(title=f"Conversation {talk.name!r}", messages=history.messages[:-1], note="", is_exact=False))

    def _do_switch(self, rest: str) -> None:
        (name,) = words_of("switch", rest, least=1, most=1)
        self._current = _named(name)
        show(Note(f"Conversation: {self._current} ({_counted(len(self._talk(self._current)), 'turn')})"))

    def _do_undo(self, rest: str) -> None:
        words = words_of("undo", rest, least=0, most=1)
        try:
            count = int(words[0]) if words else 1
        except ValueError:
            count = 0
        talk = self._talk(self._current)
        before = talk.turns
        taken = talk.undo(count)
        self._rewind(talk, before)
        show(Note(f"Took {_counted(taken, 'turn')} out of {talk.name!r}."))

    def _do_fork(self, rest: str) -> None:
        name = _named(*words_of("fork", rest, least=1, most=1))
        if self._store.load(self._scope(name), name) is not None:
            raise BadInputError(f"There is a conversation {name!r} already. Choose another name.")
        talk = self._talk(self._current)
        if self._store.load(self._scope(talk.name), talk.name) is not None:  # its system message goes along
            self._store.fork(self._scope(talk.name), talk.name, self._scope(name), name)
        self._current = name
        show(Note(f"Conversation: {name}, a copy with {_counted(len(talk), 'turn')}"))

    def _do_reset(self, rest: str) -> None:
        words = words_of("reset", rest, least=0, most=1)
        talk = self._existing(words[0] if words else self._current)
        before = talk.turns
        talk.reset()
        self._rewind(talk, before)
        show(Note(f"Conversation {talk.name!r} begins afresh. What was said stays in the file: %aichat search TEXT"))

    def _rewind(self, talk: Conversation, before: tuple[Turn, ...]) -> None:
        """Let a stored conversation end where `talk` now ends. Nothing is destroyed."""
        if before:
            self._store.rewind(self._scope(talk.name), talk.name, talk.turns[-1].number if talk.turns else None)

    def _do_delete(self, rest: str) -> None:
        (name,) = words_of("delete", rest, least=1, most=1)
        self._existing(name)
        self._store.delete(self._scope(name), name)
        show(Note(f"Conversation {name!r} is gone."))

    def _do_search(self, rest: str) -> None:
        if not rest:
            raise BadInputError("Write it as: %aichat search TEXT")
        rows = tuple(
            (
                found.name,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(found.turn.created)),
                shorten(found.excerpt, 60),
            )
            for found in self._store.search(rest)
        )
        show(
            Table(f"Turns with {shorten(rest, 40)!r}", ("conversation", "when", "text"), rows, "" if rows else "None.")
        )

    def _do_export(self, rest: str) -> None:
        from . import transcripts  # seldom wanted

        words = words_of("export", rest, least=1, most=2)
        talk = self._existing(words[1] if len(words) > 1 else self._current)
        written = transcripts.export(Path(words[0]), talk.name, talk.system, self._records(talk))
        show(Note(f"Wrote {_counted(len(talk), 'turn')} of {talk.name!r} to {written}."))

    def _records(self, talk: Conversation) -> tuple[StoredTurn, ...]:
        stored = self._store.load(self._scope(talk.name), talk.name)
        return stored.turns if stored is not None else ()

    def _do_import(self, rest: str) -> None:
        from . import transcripts  # seldom wanted

        words = words_of("import", rest, least=1, most=2)
        path = Path(words[0])
        name = _named(words[1] if len(words) > 1 else path.stem)
        if self._store.load(self._scope(name), name) is not None:
            raise BadInputError(f"There is a conversation {name!r} already. Name another: %aichat import FILE NAME")
        system, records = transcripts.read(path)
        for record in records:
            self._store.append(self._scope(name), name, record, system=system)
        self._current = name
        show(Note(f"Conversation: {name} ({_counted(len(records), 'turn')})"))

    def _do_store(self, rest: str) -> None:
        words = words_of("store", rest, least=0, most=1)
        if words and words[0] != "clear":
            raise BadInputError("Write it as: %aichat store, or %aichat store clear")
        store = self._chat.store
        if words:
            show(Note(f"Removed {_counted(store.clear(), 'stored reply', 'stored replies')}."))
            return
        summary = store.summary()
        rows = (
            ("replies", f"{summary.rows:,}"),
            ("size", f"{summary.size_bytes / 1e6:.1f} MB"),
            ("place", str(summary.path) if summary.path else "memory"),
            ("oldest", f"{summary.oldest:%Y-%m-%d %H:%M}" if summary.oldest else "-"),
        )
        show(Table("Stored replies of runs over tables", ("", ""), rows, "%aichat store clear removes them."))

    def _do_usage(self, rest: str) -> None:
        words = words_of("usage", rest, least=0, most=1)
        period = words[0] if words else "session"
        if period not in _PERIODS_S and period != "session":
            raise BadInputError(f"%aichat usage takes session, day, month or all, not {shorten(period, 20)!r}.")
        if period == "session":
            rows = [(model, "", tally.replies, tally.usage) for model, tally in sorted(self._tallies.items())]
        else:
            since = None if period == "all" else time.time() - _PERIODS_S[period]
            rows = [(row.model, row.conversation, row.replies, row.usage) for row in self._store.usage(since)]
        show(_usage_table(period, rows))

    def _totals(self) -> Usage | None:
        """The usage of the session, or None when nothing was asked."""
        usages = [tally.usage for tally in self._tallies.values()]
        total = usages[0] if usages else None
        for usage in usages[1:]:
            total = usage if total is None else total + usage
        return total


def _usage_table(period: str, rows: list[tuple[str, str, int, Usage]]) -> Table:
    """Tokens and cost by model and conversation, with a bar for the share of the tokens."""
    merged: dict[tuple[str, str], tuple[int, Usage]] = {}
    for model, conversation, replies, usage in rows:
        before = merged.get((model, conversation))
        merged[model, conversation] = (replies, usage) if before is None else (before[0] + replies, before[1] + usage)
    totals = {key: (usage.input_tokens or 0) + (usage.output_tokens or 0) for key, (_, usage) in merged.items()}
    most = max(totals.values(), default=0)
    cells = tuple(
        (
            model,
            conversation,
            replies,
            usage.input_tokens,
            usage.output_tokens,
            _cost(usage),
            "█" * round(10 * totals[model, conversation] / most) if most else "",
        )
        for (model, conversation), (replies, usage) in merged.items()
    )
    columns = ("model", "conversation", "replies", "tokens in", "tokens out", "cost", "share")
    title = {"session": "Usage of this session", "all": "Usage, all that is stored"}.get(period, f"Usage of a {period}")
    return Table(title, columns, cells, "" if cells else "Nothing was asked yet.")


def _named(name: str) -> str:
    """The name of a conversation, refused when it is empty."""
    if not name.strip():
        raise BadInputError("A conversation needs a name that is not empty.")
    return name


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _tokens(usage: Usage | None) -> str:
    if usage is None:
        return "0 tokens"
    return f"{usage.input_tokens or 0} + {usage.output_tokens or 0} tokens, cost {_cost(usage)}"


def _cost(usage: Usage) -> str:
    return money(usage.cost_usd)
