"""The session: runs `%%aichat` cells and `%aichat` lines, with everything they need handed in."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, cast

from ..batching.run import BatchRun
from ..chat.chat import Call, Chat
from ..chat.conversation import Conversation, History, Turn
from ..core.answers import cut_note
from ..core.errors import (
    AichatError,
    BadInputError,
    ChatInterrupt,
    ContextLengthError,
    EmptyReplyError,
    UnknownNameError,
)
from ..core.json_text import SchemaError
from ..core.messages import FinishReason, Message, PartialReply, Reply, estimate_tokens
from ..core.options import CallOptions
from ..core.settings import config_path, setting_names
from ..core.sync import run_sync
from ..frames.accessors import FrameAccessor
from ..frames.recognition import is_frame
from ..frames.tables import table_of
from ..store.conversations import ConversationStore, MemoryConversations
from ..text.reply_view import finish_mark
from ..text.terminal import show
from ..text.widgets import Note, Transcript
from ..text.words import nearest, shorten
from ..values.types import type_name
from .arguments import CellArguments, parse_cell, parse_command
from .commands import Commands
from .context.include import IncludedData, included
from .context.placeholders import FilledPrompt, fill
from .context.templates import PromptTemplate, prompt_templates
from .help import cell_help
from .history import ChatHistory
from .notebook_identity import MAIN, CellLocation, Files
from .reply_format import ReplyFormat, reply_format_of, reply_in_format
from .template_commands import TEMPLATE_COMMANDS, Notebook, put_code_below, template_command
from .usage import UsageTotals
from .views import ReplyView

if TYPE_CHECKING:
    from .completion import CompletionSources

_SILENCE_S = 1.0


class Session:
    """All that happens between one notebook or terminal and the models."""

    def __init__(
        self,
        chat: Chat,
        variables: MutableMapping[str, Any],
        *,
        view: Callable[[bool], ReplyView],
        shown: Callable[[Reply], None],
        location: Callable[[], CellLocation] = lambda: CellLocation(),
        store: Callable[[], ConversationStore] = MemoryConversations,
        notebook: Notebook | None = None,
        files: Files | None = None,
    ) -> None:
        """Create a session; nothing is opened or read before it is needed.

        Args:
            chat: Sends the requests.
            variables: The notebook's variables: placeholders are filled from them, `--output` adds to them.
            view: Creates the view of one reply; its argument says whether the text is shown while it grows.
            shown: Called with each reply that its view has shown in full.
            location: Returns which cell of which notebook is running.
            store: Opens the store of conversations; called at the first turn.
            notebook: Access to the notebook's cells.
            files: Access to notebooks on the disk; default: the file system.
        """
        self._chat = chat
        self._variables = variables
        self._view = view
        self._shown = shown
        self._notebook = notebook or Notebook()
        self._history = ChatHistory(chat, location=location, store=store, files=files)
        self._totals = UsageTotals()
        self._commands = Commands(chat, self._history, self._totals, self._prompt_templates)
        self._warned: set[str] = set()
        self._last_error: BaseException | None = None

    def cell(self, line: str, cell: str) -> Reply | BatchRun | None:
        """Run one `%%aichat` cell.

        Args:
            line: The text after ``%%aichat``.
            cell: The prompt.

        Returns:
            The reply, or the run of `--batch`; None for `--help` and `--dry-run`.

        Raises:
            AichatError: Something failed; the conversation is unchanged.
            ChatInterrupt: The user interrupted; the conversation is unchanged.
        """
        self._see_last_error()
        return self._cell(parse_cell(line), cell)

    def command(self, line: str) -> Reply | BatchRun | None:
        """Run one `%aichat` line.

        Args:
            line: The text after ``%aichat``.

        Returns:
            The reply of `ask` and of the template commands; None for every other command.

        Raises:
            AichatError: The command cannot be understood or carried out.
        """
        self._see_last_error()
        name, rest = parse_command(line)
        if name == "ask":
            return self._cell(CellArguments(given=CallOptions()), rest, is_line=True)
        if name in TEMPLATE_COMMANDS:
            return self._template_command(name, rest)
        self._commands.run(name, rest)
        return None

    def completion_sources(self, variables: Mapping[str, Any]) -> CompletionSources:
        """Return what Tab may offer. The names are looked up when they are needed, without asking a server.

        Args:
            variables: The variables to offer.
        """
        from .completion import CompletionSources, known_models  # needed by Tab alone

        chat = self._chat
        return CompletionSources(
            variables=variables,
            models=lambda: known_models(
                chat.registry, chat.settings, (*self._totals.by_model(), *self._commands.listed_models)
            ),
            conversations=lambda: [
                MAIN,
                *(found.name for found in self._history.listed()),
                *(name for name, _ in self._history.older()),
            ],
            templates=lambda: {name: template.placeholders for name, template in self._prompt_templates().items()},
            settings=setting_names,
        )

    # The cell ---------------------------------------------------------------------------------------------------

    def _cell(
        self,
        arguments: CellArguments,
        cell: str,
        *,
        is_line: bool = False,
        prompt: FilledPrompt | None = None,
        fixed_cell: str | None = None,
    ) -> Reply | BatchRun | None:
        """Ask for one turn of a conversation, or start the run of `--batch`."""
        if arguments.is_help:
            show(Note(cell_help()))
            return None
        if arguments.batch:
            return self._batch(arguments, cell.removesuffix("\n"))
        is_template = prompt is not None
        prompt = prompt or self._prompt(arguments, cell)
        data = included(
            arguments.include,
            self._variables,
            attached=arguments.attach,
            running=len(self._notebook.cells()) or None,
            last_error=self._last_error,
        )
        text, images = data.before(prompt.text), data.images + prompt.images
        reply_format = reply_format_of(arguments.format, arguments.schema, self._variables)
        asked, given = self._in_format(
            reply_format, text, dataclasses.replace(arguments.given, is_dry=arguments.is_dry_run)
        )
        name = arguments.chat or self._history.current
        if self._history.is_older(name):
            raise BadInputError(f"{name!r} belongs to another notebook. To continue it here: %aichat switch {name}")
        kept = self._history.load(name)
        cell_id = self._history.cell_id(cell, name, is_line=is_line)
        position = None if arguments.is_without_history else kept.place_of(cell_id)
        if arguments.is_new or arguments.is_without_history:
            # No earlier turn is sent. When the cell that began the conversation runs again, it replaces the first turn.
            position = 0 if position == 0 else None
            conversation = Conversation(name=name, system=kept.system, chat=self._chat)
        else:
            conversation = kept
        call, history = conversation.call(asked, given, images=images, place=position)
        if arguments.is_dry_run:
            self._show_dry_run(call, history)
            return None
        view = self._view(arguments.is_streamed and reply_format.is_streamed)
        notes = [line for line in call.notes if line not in self._warned]
        self._warned.update(notes)
        for line in (*notes, *self._notes(prompt, data, history, name)):
            view.note(line)
        if name == MAIN and not arguments.is_without_history and (line := self._history.greeting()):
            view.note(line)
        is_relied_on = is_template or arguments.is_code or reply_format.is_checked
        if line := self._chat.introductions.line(call, is_relied_on=is_relied_on):
            view.note(line)
        try:
            reply, problem = self._ask(call, view, reply_format, arguments.output, is_streamed=arguments.is_streamed)
        except ContextLengthError as error:
            advice = history.length_advice((*data.tokens, *prompt.tokens), is_cell=True)
            error.args = (f"{error} {advice}", *error.args[1:])
            raise
        if problem:
            whereabouts = f"in {arguments.output}.text" if arguments.output else "above"
            raise SchemaError(f"The reply does not have the requested format{problem}. The text is {whereabouts}.")
        if not arguments.is_without_history:
            self._history.add_turn(
                kept,
                Turn(text, reply, cell_id, images=images),
                options=call.request.options.sent(),
                system=arguments.given.system,
                is_new=arguments.is_new,
                position=position,
            )
        if arguments.is_code:
            show(Note(put_code_below(reply.text, self._notebook, fixed_cell=fixed_cell)))
        return reply

    def _prompt_templates(self) -> dict[str, PromptTemplate]:
        """Read the prompt templates, built-in and the user's own."""
        return prompt_templates(config_path(self._chat.settings.environ).parent)

    def _template_command(self, command: str, rest: str) -> Reply | BatchRun | None:
        """Run a template command; its question and answer stay out of the conversation unless a flag says otherwise."""
        asked = template_command(
            command,
            rest,
            self._prompt_templates(),
            variables=self._variables,
            notebook=self._notebook,
            error=self._last_error,
        )
        return self._cell(
            asked.arguments, asked.prompt.text, is_line=True, prompt=asked.prompt, fixed_cell=asked.fixed_cell
        )

    def _batch(self, arguments: CellArguments, template: str) -> BatchRun | None:
        """Run a prompt over the rows of a table. Finished rows are in the column, also when the run is stopped."""
        frame: Any = self._variables.get(arguments.batch)
        if not is_frame(frame):
            known = [name for name, value in self._variables.items() if is_frame(value) and name[0] != "_"]
            raise UnknownNameError(
                f"--batch takes the name of a DataFrame, and {shorten(arguments.batch, 40)!r} is not one."
                f"{nearest(arguments.batch, known)}"
            )
        table = table_of(frame)
        rows = FrameAccessor(table)
        if arguments.into:
            table.check_into(arguments.into)
        keywords = {**arguments.batch_options, **arguments.given.keywords()}
        if arguments.is_dry_run:
            show(Note(str(rows.estimate(template, raw=arguments.is_raw, **keywords))))
            return None
        failed: AichatError | ChatInterrupt | None = None
        try:
            result: BatchRun = rows.run(template, raw=arguments.is_raw, **keywords)
        except ChatInterrupt as error:
            failed, result = error, cast(BatchRun, rows.last_run)
        else:
            failed = result.stop_error()
        if arguments.output:
            self._variables[arguments.output] = result
        for model, usage, replies in result.tally():
            self._totals.count(model, usage, replies)
            self._history.store.record_run(model, usage, replies)
        # A run without a single reply leaves an existing column alone.
        is_useful = failed is None or any(text is not None for text in result.texts())
        if arguments.into and (is_useful or arguments.into not in table.names):
            written = table.put(result, arguments.into)
            if written is not frame:
                self._variables[arguments.batch] = written
                show(
                    Note(
                        f"{arguments.batch} is now a new {type_name(written)} with the column {arguments.into!r}: the "
                        f"{type_name(frame)} that it was cannot change in place."
                    )
                )
        if failed is not None:
            raise failed
        return result

    def _prompt(self, arguments: CellArguments, cell: str) -> FilledPrompt:
        """Return the cell's text with its placeholders filled from the notebook."""
        text = cell.removesuffix("\n")
        if arguments.is_raw:
            return FilledPrompt(text, (), ())
        return fill(text, self._variables, is_strict=arguments.is_strict)

    def _in_format(self, reply_format: ReplyFormat, prompt: str, given: CallOptions) -> tuple[str, CallOptions]:
        """Return the prompt and the options that ask for a format. Words added for it do not enter the conversation."""
        provider = self._chat.call((Message("user", "-"),), given).provider if reply_format.schema else None
        return reply_format.asked(prompt, given, supports_schema=provider is not None and provider.supports_schema)

    def _see_last_error(self) -> None:
        """Remember the notebook's last exception before one of this package replaces it."""
        error: BaseException | None = getattr(sys, "last_value", None)
        if error is not None and not isinstance(error, (AichatError, ChatInterrupt)):
            self._last_error = error

    def _notes(self, prompt: FilledPrompt, data: IncludedData, history: History, name: str) -> Iterator[str]:
        """Yield notes about the prompt to show above the reply."""
        parts = {
            "included": data.remarks,
            "filled": prompt.remarks,
            "left as text": tuple(f"{{{name}}}" for name in prompt.left),
        }
        if line := " · ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names):
            yield line
        if history.left_out and name not in self._warned:
            self._warned.add(name)
            yield (
                f"The {history.left_out} oldest turns of {name!r} no longer fit and are not sent. "
                f"To send more: %aichat set max_history_tokens N; to start over: --new"
            )

    def _ask(
        self, call: Call, view: ReplyView, reply_format: ReplyFormat, output: str, *, is_streamed: bool
    ) -> tuple[Reply, str]:
        """Ask, show the reply while it grows, and return it with a description of what is wrong with its format.

        The reply is counted and assigned to the variable `output`. Text that arrived before an error or an interrupt
        stays visible. If the first reply had the wrong format and asking again failed, the first one counts.
        """
        is_notebook = self._history.location().is_notebook
        draft = PartialReply()
        first: Reply | None = None
        failed: BaseException | None = None

        def update(draft: PartialReply) -> None:
            if not draft.text:
                view.think(draft.thinking)
            elif reply_format.is_streamed:
                view.update(reply_format.shown(draft.text, is_notebook=is_notebook))

        def taken(reply: Reply, note: str = "") -> None:
            note = note or reply.notice or cut_note(reply, call.request.options)
            if new := [line for line in reply.remarks if line not in self._warned]:
                self._warned.update(new)
                note = ". ".join(filter(None, [note or finish_mark(reply), *new]))
            shown = dataclasses.replace(reply, text=reply_format.shown(reply.text, is_notebook=is_notebook))
            view.finish(shown, note=note)
            self._totals.count(reply.model, reply.usage)
            if output:
                self._variables[output] = reply

        async def asked(call: Call) -> Reply:
            nonlocal draft, first
            draft = PartialReply()
            # A cell that shows nothing for long looks stuck.
            loop = asyncio.get_running_loop()
            silence = loop.call_later(_SILENCE_S, view.status, f"Waiting for {call.model}")
            try:
                if is_streamed:
                    reply = await self._chat.reply(call, draft, status=view.status, show=update)
                else:
                    reply = await self._chat.ask(call, status=view.status, is_viewed=True)
                first = first or reply
                return reply
            finally:
                silence.cancel()

        try:
            reply, problem = run_sync(reply_in_format(asked, call, reply_format))
        except (AichatError, ChatInterrupt) as error:
            failed = error
        if failed is not None:
            reason: FinishReason = "interrupted" if isinstance(failed, ChatInterrupt) else "truncated"
            if first is not None:
                taken(first)
            elif isinstance(failed, EmptyReplyError) and failed.reply is not None:
                # It has been paid for, and is shown as what it is, but it is no turn of the conversation.
                taken(failed.reply, " · ".join(filter(None, ("no answer", finish_mark(failed.reply)))))
                self._history.store.record_run(call.model, failed.reply.usage, 1)
            elif draft.text or draft.thinking:
                view.finish(
                    draft.reply(model=call.model, elapsed_s=0.0, messages=call.request.messages, finish_reason=reason)
                )
            else:
                view.finish(None)
            raise failed
        taken(reply)
        self._shown(reply)
        return reply, problem

    def _show_dry_run(self, call: Call, history: History) -> None:
        """Show exactly what would be sent, and about how many tokens it has."""
        options = ", ".join(f"{name}={value!r}" for name, value in call.request.options.shown().items())
        endpoint = call.provider.endpoint
        origin = f", from {endpoint.origin}" if endpoint.origin else ""
        address = f"{endpoint.base_url}{origin}" if endpoint.base_url else "this process"
        show(
            Transcript(
                title=f"Would be sent to {call.model} ({address}); nothing was sent",
                messages=history.messages,
                note=f"about {estimate_tokens(history.messages)} tokens" + (f" · {options}" if options else ""),
                is_exact=True,
            )
        )
