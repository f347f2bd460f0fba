"""`%%aichat` and `%aichat`: the only room that knows IPython's shell."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from traitlets import Float, Integer, TraitError, TraitType, Unicode, validate

from .arguments import (
    CellArguments,
    cell_manual,
    line_manual,
    parse_cell,
    parse_command,
    words_of,
)
from .bridge import run
from .chat import Call, Chat, Given, shared_chat
from .conversation import Conversation, History
from .display import ReplyView, ShownReplies, show, view_for
from .errors import AichatError, BadInputError, ChatInterrupt, UnknownNameError, nearest, shorten
from .messages import Draft, Reply, Usage, estimate_tokens
from .prompts import Filled, fill
from .render import Note, Table, Transcript

_MAX_ERROR_LINES = 5


@dataclasses.dataclass(frozen=True, slots=True)
class _Tally:
    """What one model has been asked in this session."""

    replies: int
    usage: Usage


@magics_class
class AIChat(Magics):
    """`%config AIChat` shows and sets these; empty means: what environment and file say."""

    model = Unicode("", help="provider/model, or an alias").tag(config=True)
    base_url = Unicode("", help="address of an OpenAI-compatible server").tag(config=True)
    proxy = Unicode("", help="URL of a proxy").tag(config=True)
    system = Unicode("", help="system message of new conversations").tag(config=True)
    temperature: TraitType[Any, Any] = Float(None, allow_none=True, help="0 to 2").tag(config=True)
    top_p: TraitType[Any, Any] = Float(None, allow_none=True, help="0 to 1").tag(config=True)
    max_tokens: TraitType[Any, Any] = Integer(None, allow_none=True, help="longest reply, in tokens").tag(config=True)
    timeout: TraitType[Any, Any] = Float(None, allow_none=True, help="longest time of one attempt, in seconds").tag(
        config=True
    )
    max_history_tokens: TraitType[Any, Any] = Integer(None, allow_none=True, help="budget of the history").tag(
        config=True
    )
    max_retries: TraitType[Any, Any] = Integer(None, allow_none=True, help="how often a request is sent again").tag(
        config=True
    )

    def __init__(self, shell: Any, chat: Chat | None = None, **kwargs: Any) -> None:
        """Begin a session.

        Args:
            shell: The IPython shell.
            chat: Who asks; default: the one of the process, so that cells, columns and `ask` share its settings.
            **kwargs: For traitlets.
        """
        self._chat = chat or shared_chat()
        self._conversations: dict[str, Conversation] = {}
        self._current = "main"
        self._tallies: dict[str, _Tally] = {}
        self._told: set[str] = set()
        super().__init__(shell, **kwargs)
        self.shown = ShownReplies(shell)

    @validate(
        "model", "base_url", "proxy", "system", "temperature", "top_p", "max_tokens", "timeout", "max_history_tokens",
        "max_retries",
    )  # fmt: skip
    def _checked(self, proposal: Any) -> Any:
        """Refuse a `%config` value that `%aichat set` would refuse, before it is stored."""
        problem = ""
        try:
            self._chat.set(proposal.trait.name, _as_setting(proposal.value))
        except BadInputError as error:
            problem = str(error)
        if problem:
            raise TraitError(problem)
        return proposal.value

    @no_var_expand
    @line_cell_magic
    def aichat(self, line: str, cell: str | None = None) -> Reply | None:
        """Ask a model; replaced below by the manual."""
        with _short_errors(is_debug="--debug" in line.split()):
            if cell is None:
                return self._command(line)
            return self._cell(parse_cell(line), cell)

    # The cell ---------------------------------------------------------------------------------------------------

    def _cell(self, arguments: CellArguments, cell: str) -> Reply | None:
        """One turn, from the text of a cell."""
        if arguments.is_help:
            show(Note(cell_manual()))
            return None
        prompt = self._prompt(arguments, cell)
        name = arguments.chat or self._current
        kept = self._conversations.get(name) or Conversation(name=name, chat=self._chat)
        talk = self._past(arguments, kept)
        call, history = talk.call(prompt.text, arguments.given)
        if arguments.is_dry_run:
            self._show_dry_run(call, history)
            return None
        view = view_for(self.shell, is_streamed=arguments.is_streamed)
        for line in self._remarks(prompt, history, name):
            view.note(line)
        reply = self._asked(call, view)
        self._count(reply)
        if not arguments.is_without_history:
            if arguments.is_new:
                kept.reset()
            kept.system = arguments.given.system or kept.system
            kept.keep(prompt.text, reply)
            self._conversations[name] = kept
        if arguments.output:
            self.shell.push({arguments.output: reply})
        return reply

    def _prompt(self, arguments: CellArguments, cell: str) -> Filled:
        """The cell's text, its placeholders filled from the notebook."""
        text = cell.removesuffix("\n")
        if arguments.is_raw:
            return Filled(text, (), ())
        return fill(text, self.shell.user_ns, is_strict=arguments.is_strict)

    def _past(self, arguments: CellArguments, kept: Conversation) -> Conversation:
        """The conversation whose turns are sent: the one that is kept, or an empty one like it."""
        if not (arguments.is_new or arguments.is_without_history):
            return kept
        return Conversation(name=kept.name, system=kept.system, chat=self._chat)

    def _remarks(self, prompt: Filled, history: History, name: str) -> Iterator[str]:
        """What the user should know of the prompt before the reply comes."""
        if prompt.filled or prompt.left:
            parts = []
            if prompt.filled:
                parts.append("filled: " + ", ".join(prompt.filled))
            if prompt.left:
                parts.append("left as text: " + ", ".join(f"{{{name}}}" for name in prompt.left))
            yield " · ".join(parts)
        if history.left_out and name not in self._told:
            self._told.add(name)
            yield (
                f"The {history.left_out} oldest turns of {name!r} no longer fit and are not sent. "
                f"More: %aichat set max_history_tokens N; afresh: --new"
            )

    def _asked(self, call: Call, view: ReplyView) -> Reply:
        """The reply, shown while it grows. What arrived before an error or an interrupt stays visible."""
        draft = Draft()
        failed: BaseException | None = None
        try:
            reply = run(self._chat.reply(call, draft, status=view.status, show=view.update))
        except (AichatError, ChatInterrupt) as error:
            failed = error
        if failed is not None:
            reason = "interrupted" if isinstance(failed, ChatInterrupt) else "truncated"
            view.finish(
                draft.reply(
                    model=call.model, elapsed_s=0.0, messages=call.request.messages, finish_reason=reason
                )
                if draft.text
                else None
            )
            raise failed
        view.finish(reply)
        self.shown.mark(reply)
        return reply

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

    def _count(self, reply: Reply) -> None:
        """Add a reply to the totals of the session."""
        before = self._tallies.get(reply.model)
        self._tallies[reply.model] = (
            _Tally(1, reply.usage) if before is None else _Tally(before.replies + 1, before.usage + reply.usage)
        )

    # The line ---------------------------------------------------------------------------------------------------

    def _command(self, line: str) -> Reply | None:
        """One `%aichat` command."""
        name, rest = parse_command(line)
        if name == "ask":
            return self._cell(CellArguments(given=Given()), rest)
        getattr(self, f"_do_{name or 'status'}")(rest)
        return None

    def _do_status(self, rest: str) -> None:
        settings = self._chat.settings
        replies = sum(tally.replies for tally in self._tallies.values())
        turns = len(self._conversations.get(self._current, ()))
        show(
            Table(
                "aichat",
                ("", ""),
                (
                    ("model", settings.model),
                    ("conversation", f"{self._current} ({_counted(turns, 'turn')})"),
                    ("this session", f"{_counted(replies, 'reply', 'replies')}, {_tokens(self._totals())}"),
                ),
                "%aichat help lists the commands, %%aichat --help the flags.",
            )
        )

    def _do_help(self, rest: str) -> None:
        show(Note(f"{line_manual()}\n\n{cell_manual()}"))

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
        rows = tuple((f"{provider}/{model}", "") for model in found) + tuple(aliases)
        note = "" if rows else f"{provider} names no model{f' with {needle!r}' if needle else ''}."
        show(Table(f"Models of {provider}", ("model", "stands for") if aliases else ("model",),
                   rows if aliases else tuple(row[:1] for row in rows), note))  # fmt: skip

    def _do_providers(self, rest: str) -> None:
        settings = self._chat.settings
        rows = []
        for name in self._chat.registry.names(settings):
            rows.append(self._provider_row(name))
        show(Table("Providers", ("provider", "address", "key", "state"), tuple(rows),
                   "Another OpenAI-compatible server: -m MODEL --base-url URL"))  # fmt: skip

    def _provider_row(self, name: str) -> tuple[str, str, str, str]:
        settings = self._chat.settings
        try:
            cls = self._chat.registry.provider_class(name, settings)
            preset = self._chat.registry.preset(name, settings)
            state = "" if cls.working else "not working"
            if preset is None:
                return name, "in this process", "not needed", state
            address = settings.providers[name].base_url if name in settings.providers else ""
            key = "present" if settings.has_key(name, preset) else f"set {preset.key_env}" if preset.needs_key else "-"
            return name, address or preset.base_url, key, state
        except AichatError as error:
            return name, "", "", shorten(str(error), 60)

    def _do_chats(self, rest: str) -> None:
        rows = tuple(
            (("* " if name == self._current else "  ") + name, len(talk), shorten(talk.turns[0].prompt, 50) if len(talk) else "")
            for name, talk in sorted(self._conversations.items())
        )  # fmt: skip
        show(Table("Conversations", ("name", "turns", "begins with"), rows, "" if rows else "No conversation yet."))

    def _do_show(self, rest: str) -> None:
        words = words_of("show", rest, least=0, most=1)
        talk = self._named(words[0] if words else self._current)
        history = talk.history("", budget_tokens=2**62)
        show(Transcript(title=f"Conversation {talk.name!r}", messages=history.messages[:-1], note="", is_exact=False))

    def _do_switch(self, rest: str) -> None:
        (self._current,) = words_of("switch", rest, least=1, most=1)
        turns = len(self._conversations.get(self._current, ()))
        show(Note(f"Conversation: {self._current} ({_counted(turns, 'turn')})"))

    def _do_undo(self, rest: str) -> None:
        words = words_of("undo", rest, least=0, most=1)
        try:
            count = int(words[0]) if words else 1
        except ValueError:
            count = 0
        taken = self._named(self._current).undo(count)
        show(Note(f"Took {_counted(taken, 'turn')} out of {self._current!r}."))

    def _do_fork(self, rest: str) -> None:
        (name,) = words_of("fork", rest, least=1, most=1)
        if name in self._conversations:
            raise BadInputError(f"There is a conversation {name!r} already. Choose another name.")
        self._conversations[name] = self._named(self._current).fork(name)
        self._current = name
        show(Note(f"Conversation: {name}, a copy with {_counted(len(self._conversations[name]), 'turn')}"))

    def _do_reset(self, rest: str) -> None:
        words = words_of("reset", rest, least=0, most=1)
        talk = self._named(words[0] if words else self._current)
        talk.reset()
        show(Note(f"Conversation {talk.name!r} begins afresh."))

    def _do_delete(self, rest: str) -> None:
        (name,) = words_of("delete", rest, least=1, most=1)
        self._named(name)
        del self._conversations[name]
        show(Note(f"Conversation {name!r} is gone."))

    def _do_usage(self, rest: str) -> None:
        rows = tuple(
            (model, tally.replies, tally.usage.input_tokens, tally.usage.output_tokens, _cost(tally.usage))
            for model, tally in sorted(self._tallies.items())
        )
        show(Table("Usage of this session", ("model", "replies", "tokens in", "tokens out", "cost"), rows,
                   "" if rows else "Nothing was asked yet."))  # fmt: skip

    def _named(self, name: str) -> Conversation:
        """A conversation that exists; the current one always does."""
        if name == self._current:
            return self._conversations.setdefault(name, Conversation(name=name, chat=self._chat))
        if name not in self._conversations:
            raise UnknownNameError(
                f"There is no conversation {shorten(name, 40)!r}.{nearest(name, self._conversations)} %aichat chats lists them."
            )
        return self._conversations[name]

    def _totals(self) -> Usage | None:
        """The usage of the session, or None when nothing was asked."""
        usages = [tally.usage for tally in self._tallies.values()]
        total = usages[0] if usages else None
        for usage in usages[1:]:
            total = usage if total is None else total + usage
        return total


# `%%aichat?` shows this; written once, from the flags themselves.
AIChat.aichat.__doc__ = f"{cell_manual()}\n\n{line_manual()}"


def _as_setting(value: Any) -> str:
    """A trait's value as `Chat.set` takes it; empty takes the setting back."""
    return "none" if value is None or value == "" else str(value)


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _tokens(usage: Usage | None) -> str:
    if usage is None:
        return "0 tokens"
    return f"{usage.input_tokens or 0} + {usage.output_tokens or 0} tokens, cost {_cost(usage)}"


def _cost(usage: Usage) -> str:
    return "unknown" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"


@contextlib.contextmanager
def _short_errors(*, is_debug: bool) -> Iterator[None]:
    """Errors of ours show as a few lines; with `is_debug` as Python shows them. All others pass as they are."""
    failed: AichatError | None = None
    try:
        yield
    except AichatError as error:
        failed = error
    if failed is not None:
        if not is_debug:
            failed._render_traceback_ = _renderer(failed)  # type: ignore[attr-defined]  # IPython's own hook, set where IPython is known
        raise failed


def _renderer(error: AichatError) -> Callable[[], list[str]]:
    """What IPython asks for the lines of an error."""

    def lines() -> list[str]:
        text = f"{type(error).__name__}: {error}"
        return text.splitlines()[:_MAX_ERROR_LINES]

    return lines


def load(shell: Any) -> None:
    """Give a shell the magics. A configured value that cannot be used is reported and left out."""
    unload(shell)
    try:
        magics = AIChat(shell)
    except TraitError as error:
        problem = shorten(str(error), 200)
        shell.config.pop("AIChat", None)
        show(Note(f"aichat: a configured value was left out: {problem}"))
        magics = AIChat(shell)
    shell.register_magics(magics)
    magics.shown.install()


def unload(shell: Any) -> None:
    """Take from a shell all that `load` gave it."""
    magics = shell.magics_manager.registry.pop("AIChat", None)
    if magics is None:
        return
    magics.shown.uninstall()
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("aichat", None)
    if magics in shell.configurables:
        shell.configurables.remove(magics)
