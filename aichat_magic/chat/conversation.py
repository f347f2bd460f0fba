"""Turns in order, and the part of them that is sent again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Unpack

from ..core.errors import BadInputError
from ..core.messages import Image, Message, PartialReply, Reply, estimate_tokens
from ..core.options import CallOptions, Options
from ..core.settings import Settings
from ..core.sync import iterate, run
from .chat import Call, Chat, shared_chat
from .keywords import CallKeywords

# What is kept free for the reply when nobody says how long it may be.
_RESERVED_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Turn:
    """A user message and its reply.

    Attributes:
        prompt: What the user said.
        reply: What the model answered.
        cell_id: The notebook's name for the cell that asked; empty where there is none.
        number: The store's name for the turn; 0 for one that is not stored.
        images: What went with the prompt.
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
        left_out: How many of the oldest turns did not fit.
    """

    messages: tuple[Message, ...]
    left_out: int


class Conversation:
    """A conversation with a model: what was said is sent again with the next prompt.

    Only whole turns enter it: a reply that failed, was interrupted or broke off does not.

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
        """Begin an empty conversation.

        Args:
            name: What it is called.
            model: ``provider/model`` for its turns; empty: that of the settings.
            system: System message, sent before everything else; empty: that of the settings.
            options: Sampling settings for its turns.
            chat: Who asks; default: the one of the process.
            turns: What was said before.
        """
        self.name = name
        self.model = model
        self.system = system
        self.options = options or Options()
        self._chat = chat
        self._turns: tuple[Turn, ...] = tuple(turns)

    def __repr__(self) -> str:
        """Name, model and length."""
        return f"<Conversation {self.name!r} {self.model or 'default model'} turns={len(self._turns)}>"

    def __len__(self) -> int:
        """How many turns it has."""
        return len(self._turns)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, oldest first."""
        return self._turns

    def ask(self, prompt: str, **options: Unpack[CallKeywords]) -> Reply:
        """Ask, and keep the turn. Works inside and outside a running event loop.

        Args:
            prompt: What to say.
            **options: As `aichat_magic.ask`: `model`, `system`, `temperature`, `timeout` and so on.

        Returns:
            The reply.

        Raises:
            AichatError: Nothing was kept then.
        """
        return run(self.ask_async(prompt, **options))

    async def ask_async(self, prompt: str, **options: Unpack[CallKeywords]) -> Reply:
        """As `ask`, for code that can await."""
        call = self._call(prompt, options)
        reply = await self._asker().ask(call)
        self.keep(prompt, reply)
        return reply

    def stream(self, prompt: str, **options: Unpack[CallKeywords]) -> Iterator[str]:
        """Ask, give the text piece by piece, and keep the turn once it is whole.

        Args:
            prompt: What to say.
            **options: As `ask`.

        Yields:
            Pieces of the text as they arrive.

        Raises:
            AichatError: Nothing was kept then.
        """
        call = self._call(prompt, options)
        draft = PartialReply()
        for chunk in iterate(self._asker().stream(call, draft)):
            if chunk.text:
                yield chunk.text
        self.keep(prompt, draft.reply(model=call.model, elapsed_s=0.0, messages=call.request.messages))

    def place_of(self, cell_id: str) -> int | None:
        """Position of the turn that a cell has made, from 0; None when it has made none."""
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
        """The messages for the next prompt, inside a budget.

        The system message and the prompt are always there; of the turns the newest that fit.

        Args:
            prompt: The new prompt.
            system: System message for this request; empty: the conversation's own.
            budget_tokens: Most tokens of all messages together, as `estimate_tokens` counts them.
            place: Position of the turn that is asked again: only the turns before it are sent. None: a new turn.
            images: Images that go with the prompt.
            has_past_images: Whether those of earlier turns are sent again.

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
        """Add a turn, if its reply is whole."""
        if reply.is_complete:
            self._turns = (*self._turns, Turn(prompt, reply, images=images))

    def undo(self, count: int = 1) -> int:
        """Take the last turns out.

        Args:
            count: How many, >= 1.

        Returns:
            How many were taken out.

        Raises:
            BadInputError: `count` is less than 1.
        """
        if count < 1:
            raise BadInputError(f"undo takes a number of turns from 1, not {count}.")
        before = len(self._turns)
        self._turns = self._turns[:-count]
        return before - len(self._turns)

    def reset(self) -> None:
        """Begin afresh: no turns. The system message stays."""
        self._turns = ()

    def fork(self, name: str) -> Conversation:
        """A conversation of another name with the same past."""
        twin = Conversation(
            name=name,
            model=self.model,
            system=self.system,
            options=self.options,
            chat=self._chat,
        )
        twin._turns = self._turns
        return twin

    def _call(self, prompt: str, keywords: CallKeywords) -> Call:
        given = CallOptions.from_keywords(keywords)
        return self.call(
            prompt,
            dataclasses.replace(given, model=given.model or self.model, options=given.options.over(self.options)),
        )[0]

    def call(
        self, prompt: str, given: CallOptions, *, images: tuple[Image, ...] = (), place: int | None = None
    ) -> tuple[Call, History]:
        """The call for the next prompt, with as much of the past as fits, and the history it was made from.

        Args:
            prompt: The new prompt.
            given: What the caller asks for.
            place: As `history`.
            images: Images that go with the prompt.

        Raises:
            BadInputError: Something given cannot be used.
            MissingKeyError: No key for the provider.
        """
        chat = self._asker()
        settings = chat.settings
        # The call tells how much its model can take, so it is made first and its messages are set after.
        call = chat.call((Message("user", prompt, images),), given, settings)
        history = self.history(
            prompt,
            system=given.system or self.system or settings.system,
            budget_tokens=history_budget(call, settings),
            place=place,
            images=images,
            # A conversation may go on with a model that cannot see what an earlier one was shown.
            has_past_images=call.provider.supports_images,
        )
        return call.with_messages(history.messages), history

    def _asker(self) -> Chat:
        return self._chat or shared_chat()


def history_budget(call: Call, settings: Settings) -> int:
    """How many tokens of messages one request may have: the user's limit, and what the model can take.

    Args:
        call: Tells the model and how long the reply may be.
        settings: Tells the user's limit.

    Returns:
        Tokens, >= 0.
    """
    context = call.provider.context_tokens(call.request.model)
    if context is None:
        return settings.max_history_tokens
    reserved = min(call.request.options.max_tokens or _RESERVED_TOKENS, context // 2)
    return min(settings.max_history_tokens, context - reserved)
