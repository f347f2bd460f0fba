"""Questions under way: each asks one model, shows its reply while it grows, and keeps what has come of it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence

from ..chat.chat import Call, Chat
from ..chat.conversation import History
from ..core.answers import cut_note
from ..core.errors import AichatError, ChatInterrupt, ContextLengthError, EmptyReplyError
from ..core.json_text import SchemaError
from ..core.messages import FinishReason, PartialReply, Reply
from ..core.sync import run_sync
from ..text.reply_view import finish_mark
from ..text.words import shorten
from .reply_format import ReplyFormat, reply_in_format
from .views import ReplyView

_SILENCE_S = 1.0


class Question:
    """One call, its view, and what has come of it.

    Attributes:
        call: The call.
        history: The messages that it sends.
        view: The view of its reply.
        reply: The reply that was shown and has been paid for, perhaps in the wrong format or without an answer.
        problem: What is wrong with the reply's format, to continue a sentence; empty: nothing.
        failed: Why there is no reply for the conversation; None: there is one, or there will be.
    """

    def __init__(
        self,
        chat: Chat,
        call: Call,
        history: History,
        view: ReplyView,
        reply_format: ReplyFormat,
        *,
        is_streamed: bool = True,
        is_notebook: bool = False,
        is_alone: bool = True,
        remark: Callable[[Reply], str] = lambda reply: "",
    ) -> None:
        """Create a question; nothing is sent yet.

        Args:
            chat: Sends the call.
            call: The call.
            history: The messages that it sends.
            view: The view of its reply.
            reply_format: The format that the reply must have, and how it is shown.
            is_streamed: Whether the server is asked for a stream.
            is_notebook: Whether a notebook shows the reply.
            is_alone: Whether an error is shown below the view, as that of the cell, and not in it.
            remark: Returns what to say of a reply below it.
        """
        self.call = call
        self.history = history
        self.view = view
        self.reply: Reply | None = None
        self.problem = ""
        self.failed: AichatError | ChatInterrupt | None = None
        self._chat = chat
        self._format = reply_format
        self._is_streamed = is_streamed
        self._is_notebook = is_notebook
        self._is_alone = is_alone
        self._remark = remark
        self._draft = PartialReply()
        self._first: Reply | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether neither a reply nor an error has come."""
        return self.reply is None and self.failed is None

    def error(self, tokens: Sequence[tuple[str, int]], *, text_is: str = "above") -> AichatError | ChatInterrupt | None:
        """Return why the reply is no turn of the conversation; None where it is one.

        Args:
            tokens: What was put into the prompt, and its tokens.
            text_is: Where the text of a reply in the wrong format is.
        """
        if isinstance(self.failed, ContextLengthError):
            advice = self.history.length_advice(tokens, is_cell=True)
            self.failed.args = (f"{self.failed} {advice}", *self.failed.args[1:])
        if self.failed is None and self.problem:
            return SchemaError(f"The reply does not have the requested format{self.problem}. The text is {text_is}.")
        return self.failed

    async def ask(self) -> None:
        """Ask, and show the final state. An error is kept in `failed`."""
        failed: AichatError | None = None
        try:
            reply, self.problem = await reply_in_format(self._asked, self.call, self._format)
        except AichatError as error:
            failed = error
        if failed is None:
            self._take(reply)
        else:
            self.fail(failed)

    def fail(self, error: AichatError | ChatInterrupt) -> None:
        """End without a reply. Text that arrived stays visible.

        If the first reply had the wrong format and asking again failed, the first one counts.
        """
        self.failed = error
        is_interrupt = isinstance(error, ChatInterrupt)
        reason: FinishReason = "interrupted" if is_interrupt else "truncated"
        note = "" if self._is_alone else "interrupted" if is_interrupt else shorten(str(error))
        if self._first is not None:
            self._take(self._first)
        elif isinstance(error, EmptyReplyError) and error.reply is not None:
            # It has been paid for, and is shown as what it is, but it is no turn of the conversation.
            self._take(error.reply, " · ".join(filter(None, ("no answer", finish_mark(error.reply)))))
        elif self._draft.text or self._draft.thinking:
            request = self.call.request
            partial = self._draft.reply(
                model=self.call.model, elapsed_s=0.0, messages=request.messages, finish_reason=reason
            )
            self.view.finish(partial, note=note)
        else:
            self.view.finish(None, note=note)

    def _take(self, reply: Reply, note: str = "") -> None:
        """Keep a whole reply, and show it."""
        self.reply = reply
        note = note or reply.notice or cut_note(reply, self.call.request.options)
        if remark := self._remark(reply):
            note = ". ".join(filter(None, [note or finish_mark(reply), remark]))
        shown = dataclasses.replace(reply, text=self._format.shown(reply.text, is_notebook=self._is_notebook))
        self.view.finish(shown, note=note)

    async def _asked(self, call: Call) -> Reply:
        """Send one call of the question: the first one, or the one that asks for the format again."""
        self._draft = PartialReply()
        # A cell that shows nothing for long looks stuck.
        loop = asyncio.get_running_loop()
        silence = loop.call_later(_SILENCE_S, self.view.status, f"Waiting for {call.model}")
        try:
            if self._is_streamed:
                reply = await self._chat.reply(call, self._draft, status=self.view.status, show=self._show)
            else:
                reply = await self._chat.ask(call, status=self.view.status, is_viewed=True)
            self._first = self._first or reply
            return reply
        finally:
            silence.cancel()

    def _show(self, draft: PartialReply) -> None:
        """Show what has arrived."""
        if not draft.text:
            self.view.think(draft.thinking)
        elif self._format.is_streamed:
            self.view.update(self._format.shown(draft.text, is_notebook=self._is_notebook))


def ask_all(questions: Sequence[Question]) -> None:
    """Ask all at once, and return when each has its reply or its error; after an interrupt, that is the error of most.

    Args:
        questions: The questions, one or more.
    """

    async def together() -> None:
        await asyncio.gather(*(question.ask() for question in questions))

    stopped: AichatError | ChatInterrupt | None = None
    try:
        run_sync(questions[0].ask() if len(questions) == 1 else together())
    except (AichatError, ChatInterrupt) as error:
        stopped = error
    for question in questions:
        if stopped is not None and question.is_open:
            question.fail(stopped)


def joint_error(
    questions: Sequence[Question],
    errors: Sequence[AichatError | ChatInterrupt | None],
    *,
    keep: int,
    is_kept: bool = True,
) -> AichatError | ChatInterrupt | None:
    """Return the error of a cell: that of its only question, or one that says which models failed; None for none.

    Args:
        questions: The questions.
        errors: The error of each, or None.
        keep: Position of the question whose reply goes on in the conversation.
        is_kept: Whether there is a conversation.
    """
    found = [error for error in errors if error is not None]
    if not found or len(questions) == 1:
        return found[0] if found else None
    main = errors[keep] or found[0]
    has_answered = f"{questions[keep].call.model} has answered, and goes on in the conversation."
    if isinstance(main, ChatInterrupt):
        if is_kept and errors[keep] is None:
            main.args = (f"{main} {has_answered}",)
        return main
    lines = [
        f"{question.call.model}: {error}"
        for question, error in zip(questions, errors, strict=True)
        if error is not None and not isinstance(error, ChatInterrupt)
    ]
    if is_kept and errors[keep] is None:
        lines.append(has_answered)
    elif is_kept:
        lines.append("The conversation is unchanged: the reply that was to go on in it has failed.")
    main.args = ("\n".join(lines), *main.args[1:])
    return main
