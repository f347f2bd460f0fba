"""The conversations of a session: which one is the current, to whom each belongs, which turn a cell has made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from .chat import Chat
from .conversation import Conversation, Turn
from .errors import BadInputError, UnknownNameError, nearest, shorten
from .messages import Image
from .store.conversations import (
    ConversationStore,
    ConversationSummary,
    MemoryConversations,
    StoredTurn,
    TurnRecord,
)

MAIN = "main"
_HASH_DIGITS = 16


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


class Talks:
    """The conversations that one notebook or terminal knows."""

    def __init__(
        self, chat: Chat, *, place: Callable[[], Place], store: Callable[[], ConversationStore] = MemoryConversations
    ) -> None:
        """Begin with `main`.

        Args:
            chat: Who asks.
            place: Tells which cell of which notebook is running.
            store: Opens where conversations are kept from one session to the next; called at the first turn.
        """
        self.current = MAIN
        self.place = place
        self._chat = chat
        self._open_store = store
        self._stored: ConversationStore | None = None
        self._memory = MemoryConversations()
        # Images are sent again with later turns, but not written to the file. By time and prompt: a turn gets another
        # number when one before it is replaced.
        self._images: dict[tuple[float, str], tuple[Image, ...]] = {}
        # Conversation and name of the turns that the running execution of a cell has made, and how many it began.
        self._execution = 0
        self._made: set[tuple[str, str]] = set()
        self._n_begun = 0

    @property
    def store(self) -> ConversationStore:
        """Where conversations are kept: in a file, or for this session only."""
        if not self._chat.settings.keep_history:
            return self._memory
        if self._stored is None:
            self._stored = self._open_store()
        return self._stored

    def scope_of(self, name: str) -> str:
        """To whom a conversation belongs: `main` to its notebook, every other one to all."""
        return self.place().scope if name == MAIN else ""

    def listed(self) -> list[ConversationSummary]:
        """The conversations there are, by name."""
        return self.store.names(self.place().scope)

    def lasting(self) -> str:
        """How long the current conversation stays, in a few words."""
        place = self.place()
        if not self._chat.settings.keep_history:
            return "kept until this session ends (keep_history is off)"
        if self.current != MAIN:
            return "kept, for all notebooks and terminals"
        if place.notebook:
            return "kept for this notebook"
        if place.is_notebook:
            return "kept until this kernel ends"
        return "of this terminal only; a named one stays"

    def name_with_owner(self, scope: str, name: str) -> str:
        """What to call a conversation that was found: `main` is somebody's.

        Args:
            scope: To whom it belongs.
            name: Its name.
        """
        if not scope or scope == self.place().scope:
            return name
        kind, _, owner = scope.partition(":")
        owner = PurePath(owner).name if kind == "notebook" else f"another {kind}"
        return f"{name} of {owner}"

    def is_begun(self, name: str) -> bool:
        """Whether something was said in a conversation."""
        return self.store.load(self.scope_of(name), name) is not None

    def load(self, name: str) -> Conversation:
        """A conversation as it stands now, whoever added to it; a new one where there is none."""
        self._see_execution()
        stored = self.store.load(self.scope_of(name), name)
        if stored is None:
            return Conversation(name=name, chat=self._chat)
        turns = (
            Turn(turn.prompt, turn.reply, turn.cell_id, turn.id, self._images.get((turn.created, turn.prompt), ()))
            for turn in stored.turns
        )
        return Conversation(name=name, system=stored.system, chat=self._chat, turns=turns)

    def existing(self, name: str) -> Conversation:
        """A conversation that somebody has begun; the current one always counts.

        Raises:
            UnknownNameError: There is none of this name; names the nearest.
        """
        if name != self.current and not self.is_begun(name):
            known = [found.name for found in self.listed()]
            raise UnknownNameError(
                f"There is no conversation {shorten(name, 40)!r}.{nearest(name, known)} %aichat chats lists them."
            )
        return self.load(name)

    def records(self, name: str) -> tuple[StoredTurn, ...]:
        """The turns of a conversation as they are stored."""
        self._see_execution()
        stored = self.store.load(self.scope_of(name), name)
        return stored.turns if stored is not None else ()

    def cell_id(self, prompt: str, name: str, *, is_line: bool) -> str:
        """What tells that a cell is run again, so that its turn is replaced; empty: every run is a new turn.

        A notebook names its cells. One that does not is told by the prompt itself. Lines of `ask` share a cell, so that
        the prompt is part of their name. One execution of a cell may ask several times, in a loop: each call makes its
        own turn. In a terminal everything is new.

        Args:
            prompt: Text of the cell.
            name: The conversation.
            is_line: Whether it is a line of `ask`.
        """
        place = self.place()
        if not place.is_notebook:
            return ""
        parts = [place.scope, place.cell_id]
        if is_line or not place.cell_id:
            parts.append(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS])
        self._see_execution()
        self._n_begun += 1
        first = cell_id = "#".join(parts)
        count = 1
        while (name, cell_id) in self._made:
            count += 1
            cell_id = f"{first}#{count}"
        return cell_id

    def keep(
        self,
        talk: Conversation,
        turn: Turn,
        *,
        options: Mapping[str, Any],
        system: str = "",
        is_new: bool = False,
        place: int | None = None,
    ) -> None:
        """Store a whole turn: at the end of its conversation, or in place of the one that its cell made before.

        Args:
            talk: The conversation.
            turn: The turn; one that is not whole is not stored.
            options: What was asked for beside the prompt.
            system: The system message that the cell gave; empty: as before.
            is_new: Whether the conversation begins afresh with it.
            place: Position of the turn that it replaces; None: at the end.
        """
        if not turn.reply.is_complete:
            return
        record = TurnRecord(
            prompt=turn.prompt,
            reply=turn.reply,
            options=options,
            cell_id=turn.cell_id,
            notebook=self.place().notebook,
        )
        scope = self.scope_of(talk.name)
        if place is None:
            stored = self.store.append(scope, talk.name, record, system=system or talk.system, is_new=is_new)
        else:
            stored = self.store.replace(scope, talk.name, talk.turns[place].number, record, system=system)
        if self._execution:
            self._made.add((talk.name, turn.cell_id))
        if turn.images:
            self._images[stored.created, stored.prompt] = turn.images

    def _see_execution(self) -> None:
        """Notice that another execution of a cell has begun.

        A cell that asks in a loop, and that was run again, may have asked less often than before: then what is left of
        the time before goes. It stays where a call failed or was interrupted.
        """
        execution = self.place().execution
        if execution == self._execution:
            return
        made = self._made if len(self._made) == self._n_begun else set()
        self._execution, self._made, self._n_begun = execution, set(), 0
        for name in {name for name, _ in made}:
            stored = self.store.load(self.scope_of(name), name)
            known = {cell_id for talk, cell_id in made if talk == name}
            surplus = [turn.id for turn in stored.turns if _is_surplus(turn.cell_id, known)] if stored else []
            if surplus:
                self.store.drop(self.scope_of(name), name, surplus)

    def rewind(self, talk: Conversation, before: tuple[Turn, ...]) -> None:
        """Let a stored conversation end where `talk` now ends. Nothing is destroyed.

        Args:
            talk: The conversation, some turns shorter.
            before: The turns it had.
        """
        if before:
            self.store.rewind(self.scope_of(talk.name), talk.name, talk.turns[-1].number if talk.turns else None)


def _is_surplus(cell_id: str, made: set[str]) -> bool:
    """Whether a turn is a further one of a cell that has made others since, by the names that `Talks.cell_id` gives."""
    first, _, count = cell_id.rpartition("#")
    return first in made and cell_id not in made and count.isdigit() and len(count) < _HASH_DIGITS


def named(name: str) -> str:
    """The name of a conversation, refused when it is empty.

    Raises:
        BadInputError: It is.
    """
    if not name.strip():
        raise BadInputError("A conversation needs a name that is not empty.")
    return name
