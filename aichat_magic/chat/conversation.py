"""Conversations: turns in order, and as many of them as fit are sent with the next prompt."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Unpack

from ..core.errors import BadInputError, ContextLengthError
from ..core.messages import Image, Message, PartialReply, Reply, estimate_tokens
from ..core.options import CallOptions, Options
from ..core.settings import Settings
from ..core.sharing import Remade
from ..core.sync import iterate, run_sync
from .chat import Call, Chat, shared_chat
from .keywords import CallKeywords, document_keywords
from .remarks import warn_of

# Tokens kept free for the reply if `max_tokens` is not set.
_RESERVED_TOKENS = 512
_CELL_WAYS = "--new, %aichat undo, or %aichat set max_history_tokens N"
_SCRIPT_WAYS = "undo(), reset(), or the setting max_history_tokens"


@dataclass(frozen=True, slots=True)
class Turn:
    """A user message and its reply.

    Attributes:
        prompt: Text of the user message.
        reply: Reply of the model.
        cell_id: Id of the notebook's cell that asked; empty if there is none.
        number: Number of the turn in the store; 0 if it is not stored.
        images: Images of the user message.
    """

    prompt: str
    reply: Reply
    cell_id: str = ""
    number: int = 0
    images: tuple[Image, ...] = ()

    def messages(self, *, has_images: bool = True) -> tuple[Message, Message]:
        """Return the two messages of the turn, with its images or without."""
        return Message("user", self.prompt, self.images if has_images else ()), Message("assistant", self.reply.text)


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """A turn and all turns before it. Conversations and replies share it: each turn only points to the one before.

    Attributes:
        turn: The turn.
        before: What came before it; None: it is the first.
        count: Number of the turns.
        messages: The messages of the turn, with its images.
        n_tokens: Their tokens, as `estimate_tokens` counts them.
    """

    turn: Turn
    before: Past | None = field(repr=False)
    count: int
    messages: tuple[Message, Message] = field(repr=False)
    n_tokens: int

    @classmethod
    def after(cls, past: Past | None, turns: Iterable[Turn]) -> Past | None:
        """Return a past with further turns after it."""
        for turn in turns:
            messages = turn.messages()
            past = cls(turn, past, past.count + 1 if past else 1, messages, estimate_tokens(messages))
        return past

    def back(self, count: int) -> Past | None:
        """Return the first `count` turns of it."""
        past: Past | None = self
        while past is not None and past.count > count:
            past = past.before
        return past

    def newest_first(self) -> Iterator[Past]:
        """Yield each turn with what came before it, from the newest on."""
        past: Past | None = self
        while past is not None:
            yield past
            past = past.before


def _sent(
    head: tuple[Message, ...], past: Past | None, count: int, tail: tuple[Message, ...], image_turns: int
) -> Remade[Message]:
    """Return the messages of a request, as a tuple that a reply keeps as little more than these arguments.

    Args:
        head: The messages before the turns.
        past: The turns.
        count: How many of them are sent, the newest.
        tail: The messages after them.
        image_turns: Number of turns, the newest, whose images are sent.
    """
    newest = list(itertools.islice(past.newest_first(), count)) if past else []
    pairs = (
        one.messages if place < image_turns or not one.turn.images else one.turn.messages(has_images=False)
        for place, one in reversed([*enumerate(newest)])
    )
    return Remade.of(
        (*head, *itertools.chain.from_iterable(pairs), *tail),
        functools.partial(_sent, head, past, count, tail, image_turns),
    )


@dataclass(frozen=True, slots=True)
class History:
    """The messages of one request.

    Attributes:
        messages: System message, the turns that fit the budget, the new prompt.
        images_again: Number of images of earlier turns among the messages.
        images_left_out: Number of images of the turns among the messages that are not sent again.
        left_out: Number of turns, the oldest, that did not fit.
    """

    messages: tuple[Message, ...]
    images_again: int
    images_left_out: int
    left_out: int

    def length_advice(self, parts: Iterable[tuple[str, int]] = (), *, is_cell: bool = False) -> str:
        """Return what takes the space of a request that is too long, and how to send less of it.

        Args:
            parts: Names and tokens of what is included in the prompt.
            is_cell: Whether a cell has asked, which has other ways than a script.
        """
        n_tokens = estimate_tokens(self.messages)
        turns = [message for message in self.messages[:-1] if message.role != "system"]
        found: list[str] = []
        if turns:
            count = len(turns) // 2
            ways = _CELL_WAYS if is_cell else _SCRIPT_WAYS
            found.append(
                f"the {f'{count} turns' if count > 1 else 'turn'} before the prompt about {estimate_tokens(turns):,} "
                f"(to send less: {ways})"
            )
        if largest := max(parts, key=lambda part: part[1], default=None):
            found.append(f"{largest[0]}, the largest of what is included, about {largest[1]:,}")
        if not found:
            found.append("nearly all are the prompt's own")
        return f"Of about {n_tokens:,} tokens, {' and '.join(found)}."


class Conversation:
    """A conversation with a model: each prompt is sent with the turns before it.

    Only complete turns are kept: not those whose reply failed, was interrupted or broke off.

    Example:
        >>> chat = Conversation(model="echo/echo", system="Be brief.")
        >>> str(chat.ask("Hello"))
        'Hello'
        >>> len(chat.turns)
        1
    """

    def __init__(
        self,
        *,
        name: str = "main",
        model: str = "",
        system: str = "",
        options: Options | None = None,
        chat: Chat | None = None,
        turns: Iterable[Turn] = (),
        past: Past | None = None,
    ) -> None:
        """Create a conversation.

        Args:
            name: Its name.
            model: ``provider/model`` for its turns; empty: that of the settings.
            system: System message, sent before everything else; empty: that of the settings.
            options: Sampling options for its turns.
            chat: The chat that sends its requests; default: the one that the process shares.
            turns: Earlier turns, oldest first.
            past: What came before these turns.
        """
        self.name = name
        self.model = model
        self.system = system
        self.options = options or Options()
        self._chat = chat
        self._past = Past.after(past, turns)

    def __repr__(self) -> str:
        """Show name, model and number of turns."""
        return f"<Conversation {self.name!r} {self.model or 'default model'} turns={len(self)}>"

    def __len__(self) -> int:
        """Return the number of turns."""
        return self._past.count if self._past else 0

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Return all turns, oldest first."""
        return tuple(past.turn for past in self._newest_first())[::-1]

    def _newest_first(self) -> Iterator[Past]:
        return self._past.newest_first() if self._past else iter(())

    @document_keywords(CallKeywords)
    def ask(self, prompt: str, **options: Unpack[CallKeywords]) -> Reply:
        """Ask the model and keep the turn. Works inside and outside a running event loop.

        Args:
            prompt: Text of the user message.
            **options: `CallKeywords`:
                {keywords}

        Returns:
            The reply.

        Raises:
            AichatError: The call failed; no turn was kept.
        """
        return run_sync(self.ask_async(prompt, **options))

    async def ask_async(self, prompt: str, **options: Unpack[CallKeywords]) -> Reply:
        """Do the same as `ask` in asynchronous code."""
        call, history = self._call(prompt, options)
        with _length_advice(history):
            reply = await self._sender().ask(call)
        warn_of(reply.remarks)
        self.keep(prompt, reply)
        return reply

    @document_keywords(CallKeywords)
    def stream(self, prompt: str, **options: Unpack[CallKeywords]) -> Iterator[str]:
        """Ask the model, yield the text piece by piece, and keep the turn once it is complete.

        Args:
            prompt: Text of the user message.
            **options: `CallKeywords`:
                {keywords}

        Yields:
            Pieces of the text as they arrive.

        Raises:
            AichatError: The call failed; no turn was kept.
        """
        call, history = self._call(prompt, options)
        draft = PartialReply()
        with _length_advice(history):
            for chunk in iterate(self._sender().stream(call, draft)):
                warn_of(chunk.remarks)
                if chunk.text:
                    yield chunk.text
        self.keep(prompt, draft.reply(model=call.model, elapsed_s=0.0, messages=call.request.messages))

    def place_of(self, cell_id: str) -> int | None:
        """Return the position, from 0, of the turn that a cell has made; None if it has made none."""
        found = [past.count - 1 for past in self._newest_first() if cell_id and past.turn.cell_id == cell_id]
        return found[-1] if found else None

    def history(
        self,
        prompt: str,
        *,
        system: str = "",
        budget_tokens: int,
        place: int | None = None,
        images: tuple[Image, ...] = (),
        image_turns: int = 1,
    ) -> History:
        """Return the messages for the next prompt, within a budget.

        The system message and the prompt are always included, and as many of the newest turns as fit.

        Args:
            prompt: The new prompt.
            system: System message for this request; empty: that of the conversation.
            budget_tokens: Most tokens of all messages together, as `estimate_tokens` counts them.
            place: Position of a turn to ask again: only the turns before it are sent. None: a new turn.
            images: Images of the prompt.
            image_turns: Number of turns before the prompt whose images are sent again, >= 0.

        Returns:
            The messages, and how many turns were left out.
        """
        system = system or self.system
        head = (Message("system", system),) if system else ()
        tail = (Message("user", prompt, images),)
        left = budget_tokens - estimate_tokens(head + tail)
        past = self._past if self._past is None or place is None else self._past.back(place)
        count = 0
        again = left_behind = 0
        for one in past.newest_first() if past else ():
            has_fewer = bool(one.turn.images) and count >= image_turns
            left -= estimate_tokens(one.turn.messages(has_images=False)) if has_fewer else one.n_tokens
            if left < 0:
                break
            count += 1
            again += 0 if has_fewer else len(one.turn.images)
            left_behind += len(one.turn.images) if has_fewer else 0
        messages = _sent(head, past, count, tail, image_turns)
        return History(messages, again, left_behind, (past.count if past else 0) - count)

    def keep(self, prompt: str, reply: Reply, images: tuple[Image, ...] = ()) -> None:
        """Add a turn if its reply is complete."""
        if reply.is_complete:
            self._past = Past.after(self._past, [Turn(prompt, reply, images=images)])

    def undo(self, count: int = 1) -> int:
        """Remove the last turns.

        Args:
            count: Number of turns, >= 1.

        Returns:
            The number of turns that were removed.

        Raises:
            BadInputError: `count` is less than 1.
        """
        if count < 1:
            raise BadInputError(f"undo takes a number of turns from 1, not {count}.")
        before = len(self)
        self._past = self._past.back(before - count) if self._past else None
        return before - len(self)

    def reset(self) -> None:
        """Remove all turns. The system message stays."""
        self._past = None

    def fork(self, name: str) -> Conversation:
        """Return a conversation of another name with the same turns."""
        return Conversation(
            name=name,
            model=self.model,
            system=self.system,
            options=self.options,
            chat=self._chat,
            past=self._past,
        )

    def _call(self, prompt: str, keywords: CallKeywords) -> tuple[Call, History]:
        """Return the call for the next prompt, with the model and the options of the conversation as defaults."""
        given = CallOptions.from_keywords(keywords)
        call, history = self.call(
            prompt,
            dataclasses.replace(given, model=given.model or self.model, options=given.options.over(self.options)),
        )
        warn_of(call.notes)
        return call, history

    def call(
        self, prompt: str, given: CallOptions, *, images: tuple[Image, ...] = (), place: int | None = None
    ) -> tuple[Call, History]:
        """Return the call for the next prompt, with as many turns as fit, and its history.

        Args:
            prompt: The new prompt.
            given: Options of this call.
            images: Images of the prompt.
            place: Position of a turn to ask again, as in `history`.

        Raises:
            BadInputError: An argument cannot be used.
            MissingKeyError: The provider needs a key and there is none.
        """
        chat = self._sender()
        settings = chat.settings
        # The budget depends on the model of the call, so the call is made first and its messages are set afterwards.
        call = chat.call((Message("user", prompt, images),), given, settings)
        takes_images = call.provider.supports_images and self.has_shown_images_to(call.model, place)
        history = self.history(
            prompt,
            system=given.system or self.system or settings.system,
            budget_tokens=history_budget(call, settings, chat.contexts.size(call)),
            place=place,
            images=images,
            image_turns=settings.max_history_images if takes_images else 0,
        )
        return call.with_messages(history.messages), history

    def has_shown_images_to(self, model: str, place: int | None = None) -> bool:
        """Tell whether a model has answered a turn with images: others may take none.

        Args:
            model: ``provider/model``.
            place: Position of a turn to ask again, as in `history`.
        """
        return any(turn.images and turn.reply.model == model for turn in self.turns[:place])

    def _sender(self) -> Chat:
        """Return the chat that sends the requests."""
        return self._chat or shared_chat()


@contextlib.contextmanager
def _length_advice(history: History) -> Iterator[None]:
    """Add to the error of a request that is too long what takes its space."""
    try:
        yield
    except ContextLengthError as error:
        error.args = (f"{error} {history.length_advice()}", *error.args[1:])
        raise


def history_budget(call: Call, settings: Settings, context_tokens: int | None) -> int:
    """Return how many tokens the messages of a request may have: the user's limit, or less if the model takes less.

    Args:
        call: The call; its model and the length of its reply count.
        settings: The settings with the user's limit.
        context_tokens: Tokens that messages and reply may have together, or None if that is not known.

    Returns:
        Tokens, >= 0.
    """
    if context_tokens is None:
        return settings.max_history_tokens
    request = call.request
    reply = request.options.max_tokens or call.provider.reply_tokens(request.model) or _RESERVED_TOKENS
    return min(settings.max_history_tokens, context_tokens - min(reply, context_tokens // 2))
