"""The conversations of a session: which one is the current, to whom each belongs, which turn a cell has made."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from ..chat.chat import Chat
from ..chat.conversation import Conversation, Turn
from ..core.errors import BadInputError, UnknownNameError
from ..core.messages import Image
from ..store.conversations import (
    ConversationStore,
    ConversationSummary,
    MemoryConversations,
    Origin,
    SearchHit,
    StoredTurn,
    TurnRecord,
)
from ..text.words import nearest, shorten
from .notebook_identity import MAIN, CellLocation, Files, NotebookFiles, NotebookIdentity, OlderConversation, cell_of

_HASH_DIGITS = 16
_OLDER_DIGITS = 6
_MOST_OLDER = 5


class ChatHistory:
    """The conversations that one notebook or terminal knows."""

    def __init__(
        self,
        chat: Chat,
        *,
        place: Callable[[], CellLocation],
        store: Callable[[], ConversationStore] = MemoryConversations,
        files: Files | None = None,
    ) -> None:
        """Begin with `main`.

        Args:
            chat: Who asks.
            place: Tells which cell of which notebook is running.
            store: Opens where conversations are kept from one session to the next; called at the first turn.
            files: The notebooks on the disk; default: those that are there.
        """
        self.current = MAIN
        self.place = place
        self._identity = NotebookIdentity(place, lambda: self.store, files or NotebookFiles())
        self._is_greeted = False
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

    def key(self, name: str) -> tuple[str, str]:
        """Return the scope and the name by which the store knows a conversation.

        `main` belongs to its notebook, `main@...` to another one, and every other conversation to all.
        """
        if name == MAIN:
            return self._identity.scope, MAIN
        scope = self._scope_of_older(name)
        return ("", name) if scope is None else (scope, MAIN)

    def listed(self) -> list[ConversationSummary]:
        """The conversations there are, by name."""
        return self.store.names(self._identity.scope)

    def older(self) -> list[tuple[str, ConversationSummary]]:
        """Return the names and summaries of older conversations that may be this notebook's, the newest first."""
        found = []
        for one in self._identity.older:
            summary = self._main_of(one.known.scope)
            if summary is not None and summary.turns:
                found.append((name_of_older(one.known.scope), summary))
        return found[:_MOST_OLDER]

    def is_older(self, name: str) -> bool:
        """Return whether a name is that of another notebook's, kernel's or terminal's `main`."""
        return self._scope_of_older(name) is not None

    def greeting(self) -> str:
        """Say once that `main` begins although there is an older one, and how to take that up; empty: nothing to say.

        To be asked before the first turn is kept.
        """
        if self._is_greeted or self.is_begun(MAIN):
            return ""
        self._is_greeted = True
        found = [(one, summary) for one in self._identity.older if (summary := self._main_of(one.known.scope))]
        found = [(one, summary) for one, summary in found if summary.turns]
        if not found:
            return ""
        # One whose cells are here is the likelier one.
        one, summary = max(found, key=lambda pair: (pair[0].is_copied, pair[1].updated))
        return _greeting(one, summary, n_more=len(found) - 1)

    def take_up(self, name: str) -> int:
        """Let `main` of this notebook go on where another one is, which stays as it is. Nothing is destroyed.

        Args:
            name: Its name, as `older` gives it.

        Returns:
            How many turns `main` has now.

        Raises:
            UnknownNameError: There is none of this name.
        """
        scope = self._scope_of_older(name)
        stored = None if scope is None else self.store.load(scope, MAIN)
        if scope is None or stored is None:
            raise UnknownNameError(f"There is no conversation {shorten(name, 40)!r}. %aichat chats lists them.")
        own = self._identity.scope
        self._is_greeted = True
        self.current = MAIN
        if scope != own:
            self._identity.settle()
            for number, turn in enumerate(stored.turns):
                cell = cell_of(turn, scope)
                record = TurnRecord(
                    prompt=turn.prompt,
                    reply=turn.reply,
                    options=turn.options,
                    cell_id=f"{own}#{turn.cell_id.removeprefix(f'{scope}#')}" if cell else turn.cell_id,
                    notebook=turn.notebook,
                    created=turn.created,
                    origin=self._origin(cell if self._identity.stands_here(cell) else ""),
                )
                self.store.append(own, MAIN, record, system=stored.system, is_new=number == 0)
        return len(self.load(MAIN))

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

    def bring(self, name: str, system: str, records: Iterable[TurnRecord]) -> None:
        """Store turns from elsewhere at the end of a conversation.

        Args:
            name: Its name.
            system: Its system message; empty: as before.
            records: The turns.
        """
        self._identity.settle()
        for record in records:
            self.store.append(*self.key(name), dataclasses.replace(record, origin=self._origin("")), system=system)

    def name_with_owner(self, found: SearchHit) -> str:
        """Return what to call the conversation of a turn that was found: `main` is somebody's."""
        if not found.scope or found.scope == self._identity.scope:
            return found.name
        owner = PurePath(found.turn.notebook).name or f"another {found.scope.partition(':')[0]}"
        return f"{name_of_older(found.scope)} of {owner}"

    def is_begun(self, name: str) -> bool:
        """Whether something was said in a conversation."""
        return self.store.load(*self.key(name)) is not None

    def load(self, name: str) -> Conversation:
        """A conversation as it stands now, whoever added to it; a new one where there is none."""
        self._see_execution()
        stored = self.store.load(*self.key(name))
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
        stored = self.store.load(*self.key(name))
        return stored.turns if stored is not None else ()

    def cell_id(self, prompt: str, name: str, *, is_line: bool) -> str:
        """What tells that a cell is run again, so that its turn is replaced; empty: every run is a new turn.

        Where the front end does not name the cell, everything is new, as in a terminal: two cells may ask the same. A
        name that is good for this kernel only is told from the same one in another. Lines of `ask` share a cell, so
        that the prompt is part of their name. One execution of a cell may ask several times, in a loop: each call makes
        its own turn.

        Args:
            prompt: Text of the cell.
            name: The conversation.
            is_line: Whether it is a line of `ask`.
        """
        place = self.place()
        if not place.is_notebook or not place.cell_id:
            return ""
        parts = [self._identity.scope, place.lasting_cell_id or f"{place.process}#{place.cell_id}"]
        if is_line:
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
            origin=self._origin(self._identity.cell),
        )
        self._identity.settle()
        if place is None:
            stored = self.store.append(*self.key(talk.name), record, system=system or talk.system, is_new=is_new)
        else:
            stored = self.store.replace(*self.key(talk.name), talk.turns[place].number, record, system=system)
        if self._execution and turn.cell_id:
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
            stored = self.store.load(*self.key(name))
            known = {cell_id for talk, cell_id in made if talk == name}
            surplus = [turn.id for turn in stored.turns if _is_surplus(turn.cell_id, known)] if stored else []
            if surplus:
                self.store.drop(*self.key(name), surplus)

    def rewind(self, talk: Conversation, before: tuple[Turn, ...]) -> None:
        """Let a stored conversation end where `talk` now ends. Nothing is destroyed.

        Args:
            talk: The conversation, some turns shorter.
            before: The turns it had.
        """
        if before:
            self.store.rewind(*self.key(talk.name), talk.turns[-1].number if talk.turns else None)

    def _origin(self, cell: str) -> Origin | None:
        """Which cell of which notebook makes a turn, where the notebook can be known again."""
        place = self.place()
        if not place.notebook:
            return None
        return Origin(scope=self._identity.scope, path=place.notebook, kernel=place.kernel, cell=cell)

    def _main_of(self, scope: str) -> ConversationSummary | None:
        """The conversation `main` of somebody."""
        return next((one for one in self.store.names(scope) if (one.scope, one.name) == (scope, MAIN)), None)

    def _scope_of_older(self, name: str) -> str | None:
        """To whom a conversation called `main@...` belongs; None for every other name."""
        if not name.startswith(f"{MAIN}@"):
            return None
        return next((scope for scope in self.store.scopes(MAIN) if name_of_older(scope) == name), None)


def name_of_older(scope: str) -> str:
    """Return what another notebook's, kernel's or terminal's `main` is called.

    Args:
        scope: Whose it is.
    """
    digest = hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{MAIN}@{digest[:_OLDER_DIGITS]}"


def _greeting(older: OlderConversation, summary: ConversationSummary, *, n_more: int) -> str:
    """One line on a conversation that is not taken up by itself."""
    file = shorten(PurePath(older.known.path).name, 40)
    turns = f"{summary.turns} turn{'s' if summary.turns > 1 else ''}"
    day = time.strftime("%Y-%m-%d", time.localtime(summary.updated))
    why = f"these cells are also in {file}" if older.is_copied else "none of its cells is known to be in this notebook"
    more = f"; {n_more} more: %aichat chats" if n_more else ""
    return (
        f"A new conversation begins. An older one of {file} ({turns}, {day}) was not taken up, because {why}. "
        f"To take it up: %aichat switch {name_of_older(older.known.scope)}{more}"
    )


def _is_surplus(cell_id: str, made: set[str]) -> bool:
    """Tell whether a turn is a further one of a cell that has made others since, by the names of `ChatHistory.cell_id`."""
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
