"""The session: runs `%%aichat` cells and `%aichat` lines, with everything they need handed in."""

from __future__ import annotations

import dataclasses
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from ..batching.run import BatchRun
from ..chat.chat import Call, Chat
from ..chat.conversation import Conversation, History, Turn
from ..core.errors import (
    AichatError,
    BadInputError,
    ChatInterrupt,
    UnknownNameError,
)
from ..core.messages import Message, Reply, estimate_tokens
from ..core.options import CallOptions
from ..core.settings import config_path, setting_names
from ..frames.accessors import FrameAccessor
from ..frames.recognition import is_frame
from ..frames.tables import table_of
from ..store.conversations import ConversationStore, MemoryConversations
from ..text.terminal import show
from ..text.widgets import Note, Transcript
from ..text.words import did_you_mean, shorten
from ..values.types import type_name
from .arguments import CellArguments, parse_cell, parse_cell_words, parse_command
from .asking import Question, ask_all, joint_error
from .commands import Commands
from .context.earlier_turns import has_lost_data, image_lines, left_out_line
from .context.include import IncludedData, included
from .context.placeholders import FilledPrompt, fill
from .context.templates import PromptTemplate, prompt_templates
from .help import cell_help
from .history import ChatHistory
from .line_words import split_line
from .notebook_identity import MAIN, CellLocation, Files
from .reply_format import ReplyFormat, reply_format_of
from .template_commands import TEMPLATE_COMMANDS, Notebook, put_code_below, template_command
from .usage import UsageTotals
from .views import ReplyView

if TYPE_CHECKING:
    from .completion import CompletionSources
    from .side_by_side import SideBySide

_NEXT_PROMPT = "(the prompt of the next cell)"


class Session:
    """All that happens between one notebook or terminal and the models."""

    def __init__(
        self,
        chat: Chat,
        variables: MutableMapping[str, Any],
        *,
        view: Callable[[bool], ReplyView],
        views: Callable[[Sequence[str], bool], SideBySide] | None = None,
        shown: Callable[[Reply], None],
        shown_with_others: Callable[[Reply], None] | None = None,
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
            views: Creates the view of several replies by their titles; default: each has a view of its own.
            shown: Called with each reply that its view has shown in full.
            shown_with_others: Called in its place where the output has the replies of other models, too.
            location: Returns which cell of which notebook is running.
            store: Opens the store of conversations; called at the first turn.
            notebook: Access to the notebook's cells.
            files: Access to notebooks on the disk; default: the file system.
        """
        self._chat = chat
        self._variables = variables
        self._view = view
        self._side_by_side = views
        self._shown = shown
        self._shown_with_others = shown_with_others or shown
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

    def command(self, line: str, local: Mapping[str, Any] = MappingProxyType({})) -> Reply | BatchRun | None:
        """Run one `%aichat` line.

        Args:
            line: The text after ``%aichat``.
            local: The variables of the function that the line is in; those of the notebook come after them.

        Returns:
            The reply of `ask` and of the template commands; None for every other command.

        Raises:
            AichatError: The command cannot be understood or carried out.
        """
        self._see_last_error()
        name, rest = parse_command(line)
        if name == "show" and "--next" in (words := split_line(rest)):
            arguments = parse_cell_words([word for word in words if word != "--next"])
            return self._cell(dataclasses.replace(arguments, is_dry_run=True), _NEXT_PROMPT, is_line=True, local=local)
        if name == "ask":
            return self._cell(CellArguments(given=CallOptions()), rest, is_line=True, local=local)
        if name in TEMPLATE_COMMANDS:
            return self._template_command(name, rest, local)
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
        local: Mapping[str, Any] = MappingProxyType({}),
    ) -> Reply | BatchRun | None:
        """Ask for one turn of a conversation, or start the run of `--batch`."""
        if arguments.is_help:
            show(Note(cell_help()))
            return None
        if arguments.batch:
            return self._batch(arguments, cell.removesuffix("\n"))
        is_template = prompt is not None
        prompt = prompt or self._prompt(arguments, cell, local)
        data = included(
            arguments.include,
            ChainMap({**local}, self._variables),
            attached=arguments.attach,
            running=len(self._notebook.cells()) or None,
            last_error=self._last_error,
        )
        text, images = data.before(prompt.text), data.images + prompt.images
        reply_format = reply_format_of(arguments.format, arguments.schema, self._variables)
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
        calls = [
            conversation.call(*self._in_format(reply_format, text, given), images=images, place=position)
            for given in self._given(arguments)
        ]
        if arguments.is_dry_run:
            for call, history in calls:
                earlier = self._history_notes(history, conversation, call, position)
                self._show_dry_run(call, history, [*call.notes, *_prompt_notes(prompt, data), *earlier])
            return None
        # Models differ in what of the conversation they are sent, and so in what is told of it.
        told = [[*self._history_notes(history, conversation, call, position)] for call, history in calls]
        self._warned.update([name] if any(history.left_out for _, history in calls) else [])
        is_kept = not arguments.is_without_history
        titles = [
            f"{number} · {call.model}{' (goes on)' * (is_kept and number == arguments.keep + 1)}"
            for number, (call, _) in enumerate(calls, start=1)
        ]
        view, views = self._views(titles, is_streamed=arguments.is_streamed and reply_format.is_streamed)
        told_of_all = [line for line in told[0] if all(line in lines for lines in told)]
        for line in (*_prompt_notes(prompt, data), *told_of_all):
            view.note(line)
        if name == MAIN and is_kept and (line := self._history.greeting()):
            view.note(line)
        is_relied_on = is_template or arguments.is_code or reply_format.is_checked
        for (call, _), one, lines in zip(calls, views, told, strict=True):
            for line in lines:
                if line not in told_of_all:
                    one.note(line)
            for line in filter(None, (*call.notes, self._chat.introductions.line(call, is_relied_on=is_relied_on))):
                if line not in self._warned:
                    self._warned.add(line)
                    one.note(line)
        questions = [
            Question(
                self._chat,
                *each,
                one,
                reply_format,
                is_streamed=arguments.is_streamed,
                is_notebook=self._history.location().is_notebook,
                is_alone=len(calls) == 1,
                remark=self._remark,
            )
            for each, one in zip(calls, views, strict=True)
        ]
        ask_all(questions)
        self._account(questions, arguments)
        tokens = (*data.tokens, *prompt.tokens)
        errors = [
            question.error(tokens, text_is=f"in {arguments.output}{f'[{number}]' * (len(questions) > 1)}.text")
            if arguments.output
            else question.error(tokens)
            for number, question in enumerate(questions)
        ]
        chosen = questions[arguments.keep]
        reply = chosen.reply
        if reply is not None and errors[arguments.keep] is None:
            if is_kept:
                self._history.add_turn(
                    kept,
                    Turn(text, reply, cell_id, images=images),
                    options=chosen.call.request.options.sent(),
                    system=arguments.given.system,
                    is_new=arguments.is_new,
                    position=position,
                )
            if arguments.is_code:
                show(Note(put_code_below(reply.text, self._notebook, fixed_cell=fixed_cell)))
            (self._shown if len(questions) == 1 else self._shown_with_others)(reply)
        if failed := joint_error(questions, errors, keep=arguments.keep, is_kept=is_kept):
            raise failed
        return reply

    def _given(self, arguments: CellArguments) -> list[CallOptions]:
        """Return the options of each call of a cell: one for each model.

        Raises:
            BadInputError: One address was given for the models of several providers.
        """
        given = dataclasses.replace(arguments.given, is_dry=arguments.is_dry_run)
        each = [dataclasses.replace(given, model=model) for model in arguments.models] or [given]
        if given.base_url and len(each) > 1:
            dry = (self._chat.call((Message("user", "-"),), dataclasses.replace(one, is_dry=True)) for one in each)
            if len(names := dict.fromkeys(call.provider.name for call in dry)) > 1:
                raise BadInputError(
                    f"--base-url is the address of one server, and the models are of {len(names)} providers: "
                    f"{', '.join(names)}. Leave it out, and give each provider its base_url in config.toml: "
                    f"%aichat help settings"
                )
        return each

    def _account(self, questions: Sequence[Question], arguments: CellArguments) -> None:
        """Count what the replies of a cell have cost, and assign them to the variable of `--output`."""
        for number, question in enumerate(questions):
            if (reply := question.reply) is None:
                continue
            self._totals.count(reply.model, reply.usage)
            # A turn has the usage of its reply. Other replies, and those that are no turn, are paid for, too.
            is_turn = number == arguments.keep and question.failed is None and not question.problem
            if not is_turn and not arguments.is_without_history:
                self._history.store.record_run(question.call.model, reply.usage, 1)
        replies = [question.reply for question in questions]
        if arguments.output and any(reply is not None for reply in replies):
            self._variables[arguments.output] = replies if len(replies) > 1 else replies[0]

    def _views(self, titles: Sequence[str], *, is_streamed: bool) -> tuple[ReplyView | SideBySide, Sequence[ReplyView]]:
        """Create the view of the whole output, and that of each reply in it: the same one where there is but one."""
        if len(titles) > 1 and self._side_by_side is not None:
            board = self._side_by_side(titles, is_streamed)
            return board, board.views
        views = [self._view(is_streamed) for _ in titles]
        return views[0], views

    def _remark(self, reply: Reply) -> str:
        """Return what a reply has to say that has not been said before."""
        new = [line for line in reply.remarks if line not in self._warned]
        self._warned.update(new)
        return ". ".join(new)

    def _prompt_templates(self) -> dict[str, PromptTemplate]:
        """Read the prompt templates, built-in and the user's own."""
        return prompt_templates(config_path(self._chat.settings.environ).parent)

    def _template_command(self, command: str, rest: str, local: Mapping[str, Any]) -> Reply | BatchRun | None:
        """Run a template command; its question and answer stay out of the conversation unless a flag says otherwise."""
        asked = template_command(
            command,
            rest,
            self._prompt_templates(),
            variables=ChainMap({**local}, self._variables),
            notebook=self._notebook,
            error=self._last_error,
        )
        return self._cell(
            asked.arguments,
            asked.prompt.text,
            is_line=True,
            prompt=asked.prompt,
            fixed_cell=asked.fixed_cell,
            local=local,
        )

    def _batch(self, arguments: CellArguments, template: str) -> BatchRun | None:
        """Run a prompt over the rows of a table. Finished rows are in the column, also when the run is stopped."""
        frame: Any = self._variables.get(arguments.batch)
        if not arguments.batch.isidentifier():
            value = shorten(arguments.batch, 60)
            raise BadInputError(
                f"--batch takes the name of a DataFrame, and nothing is evaluated. Assign it to a variable first: "
                f"rows = {value}; then --batch rows"
            )
        if not is_frame(frame):
            known = [name for name, value in self._variables.items() if is_frame(value) and name[0] != "_"]
            raise UnknownNameError(
                f"--batch takes the name of a DataFrame, and {shorten(arguments.batch, 40)!r} is not one."
                f"{did_you_mean(arguments.batch, known)}"
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

    def _prompt(self, arguments: CellArguments, cell: str, local: Mapping[str, Any]) -> FilledPrompt:
        """Return the cell's text with its placeholders filled, from a function's own variables or the notebook's."""
        text = cell.removesuffix("\n")
        if arguments.is_raw:
            return FilledPrompt(text, (), ())
        return fill(text, ChainMap({**local}, self._variables), is_strict=arguments.is_strict)

    def _in_format(self, reply_format: ReplyFormat, prompt: str, given: CallOptions) -> tuple[str, CallOptions]:
        """Return the prompt and the options that ask for a format. Words added for it do not enter the conversation."""
        provider = self._chat.call((Message("user", "-"),), given).provider if reply_format.schema else None
        return reply_format.asked(prompt, given, supports_schema=provider is not None and provider.supports_schema)

    def _see_last_error(self) -> None:
        """Remember the notebook's last exception before one of this package replaces it."""
        error: BaseException | None = getattr(sys, "last_value", None)
        if error is not None and not isinstance(error, (AichatError, ChatInterrupt)):
            self._last_error = error

    def _history_notes(
        self, history: History, conversation: Conversation, call: Call, position: int | None
    ) -> Iterator[str]:
        """Yield notes to show above a reply about what earlier turns have to do with it."""
        settings = self._chat.settings
        yield from image_lines(conversation, history, call, settings, place=position)
        if history.left_out and (has_lost_data(conversation, history) or conversation.name not in self._warned):
            size = self._chat.contexts.size(call)
            yield left_out_line(conversation, history, call, settings, context_tokens=size)

    def _show_dry_run(self, call: Call, history: History, notes: list[str]) -> None:
        """Show exactly what would be sent, about how many tokens it has, and the notes on it."""
        options = ", ".join(f"{name}={value!r}" for name, value in call.request.options.shown().items())
        endpoint = call.provider.endpoint
        origin = f", from {endpoint.origin}" if endpoint.origin else ""
        address = f"{endpoint.base_url}{origin}" if endpoint.base_url else "this process"
        show(
            Transcript(
                title=f"Would be sent to {call.model} ({address}); nothing was sent",
                messages=history.messages,
                note=" · ".join(filter(None, [f"about {estimate_tokens(history.messages)} tokens", options, *notes])),
                is_exact=True,
            )
        )


def _prompt_notes(prompt: FilledPrompt, data: IncludedData) -> Iterator[str]:
    """Yield a line about what a prompt was made of, if there is anything to tell."""
    parts = {
        "included": data.remarks,
        "filled": prompt.remarks,
        "left as text": (
            *(f"{{{name}}}" for name in prompt.left),
            *(f"{{{name}}} in a formula" for name in prompt.in_formulas),
        ),
    }
    if line := " · ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names):
        yield line
