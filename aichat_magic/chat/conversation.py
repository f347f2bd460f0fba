"""Conversations: turns in order, and as many of them as fit are sent with the next prompt."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Unpack

from ..core.errors import BadInputError, ContextLengthError
from ..core.messages import Image, Message, PartialReply, Reply, estimate_tokens
from ..core.options import CallOptions, Options
from ..core.settings import Settings
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


@dataclass(frozen=True, slots=True)
class History:
    """The messages of one request.

    Attributes:
        messages: System message, the turns that fit the budget, the new prompt.
        left_out: Number of turns, the oldest, that did not fit.
    """

    messages: tuple[Message, ...]
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
    ) -> None:
        """Create a conversation.

        Args:
            name: Its name.
            model: ``provider/model`` for its turns; empty: that of the settings.
            system: System message, sent before everything else; empty: that of the settings.
            options: Sampling options for its turns.
            chat: The chat that sends its requests; default: the one that the process shares.
            turns: Earlier turns, oldest first.
        """
        self.name = name
        self.model = model
        self.system = system
        self.options = options or Options()
        self._chat = chat
        self._turns: tuple[Turn, ...] = tuple(turns)

    def __repr__(self) -> str:
        """Show name, model and number of turns."""
        return f"<Conversation {self.name!r} {self.model or 'default model'} turns={len(self._turns)}>"

    def __len__(self) -> int:
        """Return the number of turns."""
        return len(self._turns)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Return all turns, oldest first."""
        return self._turns

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
        places = (place for place, turn in enumerate(self._turns) if cell_id and turn.cell_id == cell_id)
        return next(places, None)

    def history(
        self,
        prompt: str,
        *,
        system: str = "",
        budget_tokens: int,
        place: int | None = None,
        images: tuple[Image, ...] = (),
        has_past_images: bool = True,
    ) -> History:
        """Return the messages for the next prompt, within a budget.

        The system message and the prompt are always included, and as many of the newest turns as fit.

        Args:
            prompt: The new prompt.
            system: System message for this request; empty: that of the conversation.
            budget_tokens: Most tokens of all messages together, as `estimate_tokens` counts them.
            place: Position of a turn to ask again: only the turns before it are sent. None: a new turn.
            images: Images of the prompt.
            has_past_images: Whether the images of earlier turns are sent again.

        Returns:
            The messages, and how many turns were left out.
        """
        system = system or self.system
        head = (Message("system", system),) if system else ()
        tail = (Message("user", prompt, images),)
        left = budget_tokens - estimate_tokens(head + tail)
        kept: list[Message] = []
        count = 0
        before = self._turns[:place]
        for turn in reversed(before):
            past_images = turn.images if has_past_images else ()
            pair = (Message("user", turn.prompt, past_images), Message("assistant", turn.reply.text))
            left -= estimate_tokens(pair)
            if left < 0:
                break
            kept[:0] = pair
            count += 1
        return History((*head, *kept, *tail), len(before) - count)

    def keep(self, prompt: str, reply: Reply, images: tuple[Image, ...] = ()) -> None:
        """Add a turn if its reply is complete."""
        if reply.is_complete:
            self._turns = (*self._turns, Turn(prompt, reply, images=images))

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
        before = len(self._turns)
        self._turns = self._turns[:-count]
        return before - len(self._turns)

    def reset(self) -> None:
        """Remove all turns. The system message stays."""
        self._turns = ()

    def fork(self, name: str) -> Conversation:
        """Return a conversation of another name with the same turns."""
        return Conversation(
            name=name,
            model=self.model,
            system=self.system,
            options=self.options,
            chat=self._chat,
            turns=self._turns,
        )

    def _call(self, prompt: str, keywords: CallKeywords) -> tuple[Call, History]:
        """Return the call for the next prompt, with the model and the options of the conversation as defaults."""
        given = CallOptions.from_keywords(keywords)
        call, history = self.call(
            prompt,
            dataclasses.replace(given, model=given.model or self.model, options=given.options.over(self.options)),
        )
        for line in call.notes:
            warnings.warn(line, UserWarning, stacklevel=3)
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
        history = self.history(
            prompt,
            system=given.system or self.system or settings.system,
            budget_tokens=history_budget(call, settings, chat.contexts.size(call)),
            place=place,
            images=images,
            # A conversation may go on with a model that takes no images.
            has_past_images=call.provider.supports_images,
        )
        return call.with_messages(history.messages), history

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
