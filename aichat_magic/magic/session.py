"""What a `%%aichat` cell does, and which command an `%aichat` line is."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from ..batching.run import BatchRun, check_columns
from ..chat.chat import Call, Chat
from ..chat.conversation import Conversation, History, Turn
from ..core.errors import AichatError, BadInputError, ChatInterrupt, UnknownNameError
from ..core.json_text import SchemaError
from ..core.messages import FinishReason, Message, PartialReply, Reply, estimate_tokens
from ..core.options import CallOptions
from ..core.settings import config_path, setting_names
from ..core.sync import run
from ..store.conversations import ConversationStore, MemoryConversations
from ..text.terminal import show
from ..text.widgets import Note, Transcript
from ..text.words import nearest, shorten
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
    """One notebook's or terminal's talk with models."""

    def __init__(
        self,
        chat: Chat,
        variables: MutableMapping[str, Any],
        *,
        view: Callable[[bool], ReplyView],
        shown: Callable[[Reply], None],
        place: Callable[[], CellLocation] = lambda: CellLocation(),
        store: Callable[[], ConversationStore] = MemoryConversations,
        notebook: Notebook | None = None,
        files: Files | None = None,
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
            files: The notebooks on the disk; default: those that are there.
        """
        self._chat = chat
        self._variables = variables
        self._view = view
        self._shown = shown
        self._notebook = notebook or Notebook()
        self._talks = ChatHistory(chat, place=place, store=store, files=files)
        self._totals = UsageTotals()
        self._commands = Commands(chat, self._talks, self._totals, self._recipes)
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
            return self._cell(CellArguments(given=CallOptions()), rest, is_line=True)
        if name in TEMPLATE_COMMANDS:
            return self._aside(name, rest)
        self._commands.run(name, rest)
        return None

    def known(self, variables: Mapping[str, Any]) -> CompletionSources:
        """What Tab may offer: all of it is looked up when it is asked for, and no server is asked.

        Args:
            variables: The notebook's variables, as far as they are offered.
        """
        from .completion import CompletionSources, known_models  # only Tab needs it

        chat = self._chat
        return CompletionSources(
            variables=variables,
            models=lambda: known_models(
                chat.registry, chat.settings, (*self._totals.by_model(), *self._commands.listed_models)
            ),
            conversations=lambda: [
                MAIN,
                *(found.name for found in self._talks.listed()),
                *(name for name, _ in self._talks.older()),
            ],
            templates=lambda: {name: recipe.placeholders for name, recipe in self._recipes().items()},
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
        mends: str | None = None,
    ) -> Reply | BatchRun | None:
        """One turn, from the text of a cell."""
        if arguments.is_help:
            show(Note(cell_help()))
            return None
        if arguments.batch:
            return self._batch(arguments, cell.removesuffix("\n"))
        prompt = prompt or self._prompt(arguments, cell)
        data = included(
            arguments.include,
            self._variables,
            attached=arguments.attach,
            running=len(self._notebook.cells()) or None,
            last_error=self._last_error,
        )
        text, images = data.before(prompt.text), data.images + prompt.images
        shape = reply_format_of(arguments.format, arguments.schema, self._variables)
        asked, given = self._in_format(shape, text, dataclasses.replace(arguments.given, is_dry=arguments.is_dry_run))
        name = arguments.chat or self._talks.current
        if self._talks.is_older(name):
            raise BadInputError(f"{name!r} is another notebook's. To go on with it here: %aichat switch {name}")
        kept = self._talks.load(name)
        cell_id = self._talks.cell_id(cell, name, is_line=is_line)
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
        if name == MAIN and not arguments.is_without_history and (line := self._talks.greeting()):
            view.note(line)
        reply, problem = self._asked(call, view, shape, arguments.output)
        if problem:
            place_of_text = f"{arguments.output}.text" if arguments.output else "the text above"
            raise SchemaError(f"The reply is not what was asked for{problem}. It is in {place_of_text}.")
        if not arguments.is_without_history:
            self._talks.keep(
                kept,
                Turn(text, reply, cell_id, images=images),
                options=call.request.options.sent(),
                system=arguments.given.system,
                is_new=arguments.is_new,
                place=place,
            )
        if arguments.is_code:
            show(Note(put_code_below(reply.text, self._notebook, mends=mends)))
        return reply

    def _recipes(self) -> dict[str, PromptTemplate]:
        """The prompt templates, those of the user among them."""
        return prompt_templates(config_path(self._chat.settings.environ).parent)

    def _aside(self, command: str, rest: str) -> Reply | BatchRun | None:
        """A question by a template, beside the conversation."""
        asked = template_command(
            command,
            rest,
            self._recipes(),
            variables=self._variables,
            notebook=self._notebook,
            error=self._last_error,
        )
        return self._cell(asked.arguments, asked.prompt.text, is_line=True, prompt=asked.prompt, mends=asked.mends)

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
            self._totals.count(model, usage, replies)
            self._talks.store.record_run(model, usage, replies)
        # A run that has answered nothing leaves a column as it was.
        is_useful = failed is None or any(text is not None for text in result.texts())
        if arguments.into and (is_useful or arguments.into not in frame.columns):
            result.put_into(frame, arguments.into)
        if failed is not None:
            raise failed
        return result

    def _prompt(self, arguments: CellArguments, cell: str) -> FilledPrompt:
        """The cell's text, its placeholders filled from the notebook."""
        text = cell.removesuffix("\n")
        if arguments.is_raw:
            return FilledPrompt(text, (), ())
        return fill(text, self._variables, is_strict=arguments.is_strict)

    def _in_format(self, shape: ReplyFormat, prompt: str, given: CallOptions) -> tuple[str, CallOptions]:
        """The prompt and the options that ask for a form. The words that do are no part of the conversation."""
        provider = self._chat.call((Message("user", "-"),), given).provider if shape.schema else None
        return shape.asked(prompt, given, supports_schema=provider is not None and provider.supports_schema)

    def _see_last_error(self) -> None:
        """Remember the notebook's last exception, before one of ours takes its place."""
        error: BaseException | None = getattr(sys, "last_value", None)
        if error is not None and not isinstance(error, (AichatError, ChatInterrupt)):
            self._last_error = error

    def _remarks(self, prompt: FilledPrompt, data: IncludedData, history: History, name: str) -> Iterator[str]:
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

    def _asked(self, call: Call, view: ReplyView, shape: ReplyFormat, output: str) -> tuple[Reply, str]:
        """The reply, shown while it grows, and what is wrong with its form.

        It is counted, and put into the variable `output`. What arrived before an error or an interrupt stays visible;
        a whole reply that was being asked for once more is counted and kept, too.
        """
        is_notebook = self._talks.place().is_notebook
        draft = PartialReply()
        first: Reply | None = None
        failed: BaseException | None = None

        def update(text: str) -> None:
            if shape.is_streamed:
                view.update(shape.shown(text, is_notebook=is_notebook))

        def taken(reply: Reply) -> None:
            view.finish(dataclasses.replace(reply, text=shape.shown(reply.text, is_notebook=is_notebook)))
            self._totals.count(reply.model, reply.usage)
            if output:
                self._variables[output] = reply

        async def asked(call: Call) -> Reply:
            nonlocal draft, first
            draft = PartialReply()
            # A cell that shows nothing looks as if nothing was going on.
            loop = asyncio.get_running_loop()
            silence = loop.call_later(_SILENCE_S, view.status, f"Waiting for {call.model}")
            try:
                reply = await self._chat.reply(call, draft, status=view.status, show=update)
                first = first or reply
                return reply
            finally:
                silence.cancel()

        try:
            reply, problem = run(reply_in_format(asked, call, shape))
        except (AichatError, ChatInterrupt) as error:
            failed = error
        if failed is not None:
            reason: FinishReason = "interrupted" if isinstance(failed, ChatInterrupt) else "truncated"
            if first is not None:
                taken(first)
            elif draft.text:
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
