"""Chat history: the conversations of a session, who owns each of them, and which cell made which turn."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from ..chat.chat import Chat
from ..chat.conversation import Conversation, Past, Turn
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
from ..text.words import did_you_mean, shorten
from .notebook_identity import MAIN, CellLocation, Files, NotebookFiles, NotebookIdentity, OlderConversation, cell_of

_HASH_DIGITS = 16
_OLDER_DIGITS = 6
_MOST_OLDER = 5


class ChatHistory:
    """The conversations that one notebook or terminal can continue, and the current one among them."""

    def __init__(
        self,
        chat: Chat,
        *,
        location: Callable[[], CellLocation],
        store: Callable[[], ConversationStore] = MemoryConversations,
        files: Files | None = None,
    ) -> None:
        """Start with `main` as the current conversation.

        Args:
            chat: Sends the requests of the conversations.
            location: Returns which cell of which notebook is running.
            store: Opens the store of conversations; called at the first turn.
            files: Access to notebooks on the disk; default: the file system.
        """
        self.current = MAIN
        self.location = location
        self._identity = NotebookIdentity(location, lambda: self.store, files or NotebookFiles())
        self._is_greeted = False
        self._chat = chat
        self._open_store = store
        self._stored: ConversationStore | None = None
        self._memory = MemoryConversations()
        # Images are sent again with later turns, but not written to the file. The key is time and prompt, because a
        # turn gets a new number when one before it is replaced.
        self._images: dict[tuple[float, str], tuple[Image, ...]] = {}
        # By scope and name, as last loaded: the turns of a conversation are made once, not again for each cell.
        self._pasts: dict[tuple[str, str], Past | None] = {}
        # Conversation and cell id of the turns that the running execution of a cell has stored, and how many it began.
        self._execution = 0
        self._made: set[tuple[str, str]] = set()
        self._n_begun = 0

    @property
    def store(self) -> ConversationStore:
        """Return the store of conversations: a file, or memory if `keep_history` is off."""
        if not self._chat.settings.keep_history:
            return self._memory
        if self._stored is None:
            self._stored = self._open_store()
        return self._stored

    def key(self, name: str) -> tuple[str, str]:
        """Return the scope and the name under which a conversation is stored.

        `main` belongs to this notebook, `main@...` to another one; every other name is shared by all.
        """
        if name == MAIN:
            return self._identity.scope, MAIN
        scope = self._scope_of_older(name)
        return ("", name) if scope is None else (scope, MAIN)

    def listed(self) -> list[ConversationSummary]:
        """Return the stored conversations of this notebook and the shared ones."""
        return self.store.names(self._identity.scope)

    def older(self) -> list[tuple[str, ConversationSummary]]:
        """Return names and summaries of older conversations that may belong to this notebook, newest first."""
        return [(older_name(one.known.scope), summary) for one, summary in self._begun(self._identity.older)]

    def _begun(self, older: Iterable[OlderConversation]) -> list[tuple[OlderConversation, ConversationSummary]]:
        """Return the first few that have turns: a path such as that of `Console 1` may have had hundreds."""
        found = ((one, summary) for one in older if (summary := self._main_of(one.known.scope)) and summary.turns)
        return list(itertools.islice(found, _MOST_OLDER))

    def is_older(self, name: str) -> bool:
        """Tell whether a name stands for the `main` of another notebook, kernel or terminal."""
        return self._scope_of_older(name) is not None

    def greeting(self) -> str:
        """Return a line, once, that says how to continue an older `main` instead of a new one; empty if there is none.

        Call it before the first turn is stored.
        """
        if self._is_greeted or self.is_begun(MAIN):
            return ""
        self._is_greeted = True
        found = self._begun(sorted(self._identity.older, key=lambda one: not one.is_copied))
        if not found:
            return ""
        # A conversation whose cells are in this notebook is the more likely one.
        one, summary = max(found, key=lambda pair: (pair[0].is_copied, pair[1].updated))
        return _greeting(one, summary, n_more=len(found) - 1)

    def continue_from(self, name: str) -> int:
        """Continue another notebook's `main` here, as a copy. The other one is unchanged.

        Args:
            name: Its name, as `older` returns it.

        Returns:
            The number of turns that `main` has now.

        Raises:
            UnknownNameError: There is no conversation of this name.
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
            records = []
            for turn in stored.turns:
                cell = cell_of(turn, scope)
                records.append(
                    TurnRecord(
                        prompt=turn.prompt,
                        reply=turn.reply,
                        options=turn.options,
                        cell_id=f"{own}#{turn.cell_id.removeprefix(f'{scope}#')}" if cell else turn.cell_id,
                        notebook=turn.notebook,
                        created=turn.created,
                        origin=self._origin(cell if self._identity.stands_here(cell) else ""),
                    )
                )
            self.store.append_all(own, MAIN, records, system=stored.system, is_new=True)
        return len(self.load(MAIN))

    def lifetime_text(self) -> str:
        """Return in a few words how long the current conversation is kept."""
        location = self.location()
        if not self._chat.settings.keep_history:
            return "kept until this session ends (keep_history is off)"
        if self.current != MAIN:
            return "kept, for all notebooks and terminals"
        if location.notebook:
            return "kept for this notebook"
        if location.is_notebook:
            return "kept until this kernel ends"
        return "kept until this terminal ends; one with another name stays"

    def import_turns(self, name: str, system: str, records: Iterable[TurnRecord]) -> None:
        """Append turns from a file to a conversation: all of them, or none if it is stopped halfway.

        Args:
            name: Name of the conversation.
            system: Its system message; empty: unchanged.
            records: The turns.
        """
        self._identity.settle()
        origin = self._origin("")
        turns = [dataclasses.replace(record, origin=origin) for record in records]
        self.store.append_all(*self.key(name), turns, system=system)

    def name_with_owner(self, found: SearchHit) -> str:
        """Return a name for the conversation of a search hit; for another owner's `main`, with the owner."""
        if not found.scope or found.scope == self._identity.scope:
            return found.name
        owner = PurePath(found.turn.notebook).name or f"another {found.scope.partition(':')[0]}"
        return f"{older_name(found.scope)} of {owner}"

    def is_begun(self, name: str) -> bool:
        """Tell whether a conversation is stored."""
        return self.store.load(*self.key(name)) is not None

    def load(self, name: str) -> Conversation:
        """Return the conversation as it is stored now, with turns of other sessions; a new one if it is not stored."""
        self._see_execution()
        stored = self.store.load(*self.key(name))
        if stored is None:
            return Conversation(name=name, chat=self._chat)
        past = self._pasts[self.key(name)] = self._past(self._pasts.get(self.key(name)), stored.turns)
        return Conversation(name=name, system=stored.system, chat=self._chat, past=past)

    def _past(self, past: Past | None, stored: tuple[StoredTurn, ...]) -> Past | None:
        """Return stored turns, made from those that are known as far as they are the same.

        Args:
            past: The turns that are known. The store returns the same values as long as it has the same turns.
            stored: All turns as they are stored now.
        """
        past = past and past.back(len(stored))
        while past is not None and past.turn.reply is not stored[past.count - 1].reply:
            past = past.before
        new = stored[past.count if past else 0 :]
        return Past.after(
            past,
            (
                Turn(turn.prompt, turn.reply, turn.cell_id, turn.id, self._images.get((turn.created, turn.prompt), ()))
                for turn in new
            ),
        )

    def existing(self, name: str) -> Conversation:
        """Return a stored conversation, or the current one.

        Raises:
            UnknownNameError: There is no conversation of this name; names the nearest.
        """
        if name != self.current and not self.is_begun(name):
            known = [found.name for found in self.listed()]
            raise UnknownNameError(
                f"There is no conversation {shorten(name, 40)!r}.{did_you_mean(name, known)} %aichat chats lists them."
            )
        return self.load(name)

    def records(self, name: str) -> tuple[StoredTurn, ...]:
        """Return the turns of a conversation as they are stored."""
        self._see_execution()
        stored = self.store.load(*self.key(name))
        return stored.turns if stored is not None else ()

    def cell_id(self, prompt: str, name: str, *, is_line: bool) -> str:
        """Return the id under which the running cell's turn is stored, so that the cell replaces it when run again.

        Empty if the front end sends no cell id, as in a terminal: then every run is a new turn, because two cells may
        ask the same thing. An id that is only valid in this kernel is prefixed with the process. Several `%aichat ask`
        lines can share a cell, so their prompt is part of the id. A cell that asks in a loop gets one id for each call.

        Args:
            prompt: Text of the cell.
            name: Name of the conversation.
            is_line: Whether it is an `%aichat` line.
        """
        location = self.location()
        if not location.is_notebook or not location.cell_id:
            return ""
        parts = [self._identity.scope, location.lasting_cell_id or f"{location.process}#{location.cell_id}"]
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

    def add_turn(
        self,
        conversation: Conversation,
        turn: Turn,
        *,
        options: Mapping[str, Any],
        system: str = "",
        is_new: bool = False,
        position: int | None = None,
    ) -> None:
        """Store a complete turn: at the end of its conversation, or in place of an earlier turn of the same cell.

        Args:
            conversation: The conversation.
            turn: The turn; one with an incomplete reply is not stored.
            options: The sampling options that were sent.
            system: The system message that the cell gave; empty: unchanged.
            is_new: Whether the conversation starts over with this turn.
            position: Position of the turn to replace; None: append.
        """
        if not turn.reply.is_complete:
            return
        record = TurnRecord(
            prompt=turn.prompt,
            reply=turn.reply,
            options=options,
            cell_id=turn.cell_id,
            notebook=self.location().notebook,
            origin=self._origin(self._identity.cell),
        )
        self._identity.settle()
        if position is None:
            stored = self.store.append(
                *self.key(conversation.name), record, system=system or conversation.system, is_new=is_new
            )
        else:
            stored = self.store.replace(
                *self.key(conversation.name), conversation.turns[position].number, record, system=system
            )
        if self._execution and turn.cell_id:
            self._made.add((conversation.name, turn.cell_id))
        if turn.images:
            self._images[stored.created, stored.prompt] = turn.images

    def _see_execution(self) -> None:
        """Notice that another execution of a cell has begun, and remove leftovers of the one before.

        A cell that asks in a loop may have asked less often when it was run again. The surplus turns of its previous
        run are then removed, unless a call of the new run failed or was interrupted.
        """
        execution = self.location().execution
        if execution == self._execution:
            return
        made = self._made if len(self._made) == self._n_begun else set()
        self._execution, self._made, self._n_begun = execution, set(), 0
        for name in {name for name, _ in made}:
            stored = self.store.load(*self.key(name))
            known = {cell_id for owner, cell_id in made if owner == name}
            surplus = [turn.id for turn in stored.turns if _is_surplus(turn.cell_id, known)] if stored else []
            if surplus:
                self.store.drop(*self.key(name), surplus)

    def rewind(self, conversation: Conversation, before: tuple[Turn, ...]) -> None:
        """Shorten a stored conversation to the turns that `conversation` still has. The others stay in the file.

        Args:
            conversation: The conversation, some turns shorter.
            before: The turns that it had.
        """
        if before:
            self.store.rewind(
                *self.key(conversation.name), conversation.turns[-1].number if conversation.turns else None
            )

    def _origin(self, cell: str) -> Origin | None:
        """Return which cell of which notebook makes a turn; None if the notebook cannot be recognised later."""
        location = self.location()
        if not location.notebook:
            return None
        return Origin(scope=self._identity.scope, path=location.notebook, kernel=location.kernel, cell=cell)

    def _main_of(self, scope: str) -> ConversationSummary | None:
        """Return the summary of the `main` of a scope; None if it has none."""
        return next((one for one in self.store.names(scope) if (one.scope, one.name) == (scope, MAIN)), None)

    def _scope_of_older(self, name: str) -> str | None:
        """Return the scope of a conversation named `main@...`; None for every other name."""
        if not name.startswith(f"{MAIN}@"):
            return None
        return next((scope for scope in self.store.scopes(MAIN) if older_name(scope) == name), None)


def older_name(scope: str) -> str:
    """Return the name under which the `main` of another notebook, kernel or terminal is shown.

    Args:
        scope: Scope of the owner.
    """
    digest = hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{MAIN}@{digest[:_OLDER_DIGITS]}"


def _greeting(older: OlderConversation, summary: ConversationSummary, *, n_more: int) -> str:
    """Return the line that offers to continue an older conversation."""
    file = shorten(PurePath(older.known.path).name, 40)
    turns = f"{summary.turns} turn{'s' if summary.turns > 1 else ''}"
    day = time.strftime("%Y-%m-%d", time.localtime(summary.updated))
    why = f"these cells are also in {file}" if older.is_copied else "none of its cells is known to be in this notebook"
    more = f"; {n_more} more: %aichat chats" if n_more else ""
    return (
        f"This is a new conversation. An older one of {file} ({turns}, {day}) was not continued, because {why}. "
        f"To continue it: %aichat switch {older_name(older.known.scope)}{more}"
    )


def _is_surplus(cell_id: str, made: set[str]) -> bool:
    """Tell whether a turn is left over from a longer run of a cell that made `made` (ids of `ChatHistory.cell_id`)."""
    first, _, count = cell_id.rpartition("#")
    return first in made and cell_id not in made and count.isdigit() and len(count) < _HASH_DIGITS


def named(name: str) -> str:
    """Return the name of a conversation unless it is empty.

    Raises:
        BadInputError: It is empty.
    """
    if not name.strip():
        raise BadInputError("The name of a conversation must not be empty.")
    return name
