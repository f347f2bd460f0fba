"""Conversations in memory: all of them, or what has been done to those of a file that cannot be written now."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .forest import Forest, Key, Spent, Talk
from .origins import KnownNotebook, Origin, first_known
from .turns import (
    FIRST_PROMPT_CHARS,
    ConversationSummary,
    Found,
    Said,
    StoredConversation,
    StoredTurn,
    excerpt_of,
    turn_from,
    usage_from,
)


class Below(Forest, Protocol):
    """A forest that another one can stand on."""

    def line(self, head: int | None) -> list[tuple[int, int, Said]]:
        """As `path`, with what was said."""


@dataclass(slots=True)
class _Node:
    """A turn: what it grew from, which conversation made it, and what was said."""

    parent: int | None
    owner: Key
    said: int


class MemoryForest:
    """Turns and conversations as dictionaries.

    One that stands on another takes from it each conversation that is touched, and leaves it as it is.
    """

    def __init__(self, below: Below | None = None) -> None:
        """Begin empty, or on top of another one."""
        self._below = below
        self._nodes: dict[int, _Node] = {}
        self._said: dict[int, Said] = {}
        self._talks: dict[Key, Talk | None] = {}  # None: deleted
        self._gone: set[Key] = set()  # also those that were begun again since
        self._notebooks: dict[str, KnownNotebook | None] = {}  # None: forgotten
        self._spent: list[tuple[Key | None, int, tuple[Any, ...]]] = []
        self._turn_ids: Iterator[int] = itertools.count(1)
        self._said_ids: Iterator[int] = itertools.count(1)

    def begin(self, number: int) -> None:
        """Name the turns that follow by the operation, below zero: those of a file are above."""
        self._turn_ids = temporary_ids(number)
        self._said_ids = temporary_ids(number)

    def resolve(self, turn: int) -> int:
        """The same."""
        return turn

    def talk(self, key: Key) -> Talk | None:
        """The conversation of this name."""
        if key not in self._talks and self._below is not None and (talk := self._below.talk(key)) is not None:
            self.put(key, talk)
        return self._talks.get(key)

    def put(self, key: Key, talk: Talk) -> None:
        """Make or change a conversation."""
        self._talks[key] = talk
        if self._below is not None and talk.head is not None and talk.head not in self._nodes:
            parent = None
            for turn, number, said in self._below.line(talk.head):
                self._nodes.setdefault(turn, _Node(parent, key, number))
                self._said[number] = said
                parent = turn

    def keep(self, said: Said) -> int:
        """Store what was said."""
        number = next(self._said_ids)
        self._said[number] = said
        return number

    def add(self, key: Key, parent: int | None, said: int) -> int:
        """Add a turn."""
        turn = next(self._turn_ids)
        self._nodes[turn] = _Node(parent, key, said)
        return turn

    def path(self, head: int | None) -> list[tuple[int, int]]:
        """The turns up to a head."""
        found = []
        while head is not None and (node := self._nodes.get(head)) is not None:
            found.append((head, node.said))
            head = node.parent
        return found[::-1]

    def owns(self, key: Key, turn: int) -> bool:
        """Whether a turn was made by this conversation."""
        if turn > 0 and self._below is not None:
            return self._below.owns(key, turn)
        node = self._nodes.get(turn)
        return node is not None and node.owner == key

    def delete(self, key: Key) -> bool:
        """Remove a conversation; turns that others grew from are theirs from now on."""
        if self.talk(key) is None:
            return False
        self._talks[key] = None
        self._gone.add(key)
        if key[0]:
            self._notebooks[key[0]] = None
        heirs = [(talk.head, other) for other, talk in self._talks.items() if talk is not None]
        heirs += [(node.parent, node.owner) for node in self._nodes.values() if node.owner != key]
        for turn, heir in heirs:
            while turn is not None and (node := self._nodes.get(turn)) is not None and node.owner == key:
                node.owner, turn = heir, node.parent
        self._nodes = {turn: node for turn, node in self._nodes.items() if node.owner != key}
        needed = {node.said for node in self._nodes.values()}
        self._said = {number: said for number, said in self._said.items() if number in needed}
        self._spent = [(None if owner == key else owner, replies, values) for owner, replies, values in self._spent]
        if self._below is None:
            del self._talks[key]
        return True

    def spend(self, key: Key | None, replies: int, values: tuple[Any, ...]) -> None:
        """Note what was used."""
        self._spent.append((key, replies, values))

    def load(self, key: Key) -> StoredConversation | None:
        """The turns of a conversation."""
        talk = self.talk(key)
        if talk is None:
            return None
        turns = (turn_from(turn, self._said[said]) for turn, said in self.path(talk.head))
        return StoredConversation(system=talk.system, turns=tuple(turn for turn in turns if turn is not None))

    def names(self, scope: str) -> list[ConversationSummary]:
        """The conversations of a scope and the shared ones."""
        found = [] if self._below is None else self._below.names(scope)
        found = [summary for summary in found if (summary.scope, summary.name) not in self._talks]
        for (owner, name), talk in self._talks.items():
            if talk is None or owner not in (scope, ""):
                continue
            conversation = self.load((owner, name))
            turns = conversation.turns if conversation else ()
            found.append(
                ConversationSummary(
                    scope=owner,
                    name=name,
                    turns=len(turns),
                    first_prompt=turns[0].prompt[:FIRST_PROMPT_CHARS] if turns else "",
                    updated=talk.updated,
                )
            )
        return found

    def scopes(self, name: str) -> list[str]:
        """Return the scopes that have a conversation of this name."""
        found = [] if self._below is None else self._below.scopes(name)
        found = [scope for scope in found if (scope, name) not in self._talks]
        return found + [scope for (scope, called), talk in self._talks.items() if called == name and talk is not None]

    def search(self, text: str, limit: int) -> list[Found]:
        """Turns that hold a text."""
        found = [] if self._below is None else self._below.search(text, limit)
        found = [one for one in map(self._inherited, found) if one is not None]
        newest: dict[int, int] = {}
        for turn, node in self._nodes.items():
            if self._below is None or node.said < 0:  # the others have been found below
                newest[node.said] = turn
        for number, turn in newest.items():
            stored: StoredTurn | None = turn_from(turn, self._said[number])
            excerpt = excerpt_of(stored, text) if stored is not None else None
            if stored is not None and excerpt is not None:
                scope, name = self._nodes[turn].owner
                found.append(Found(scope=scope, name=name, turn=stored, excerpt=excerpt))
        # Of equal times the later one first: temporary names fall as operations follow each other, others rise.
        found.sort(key=lambda one: (one.turn.created, one.turn.id < 0, abs(one.turn.id)), reverse=True)
        return found[:limit]

    def _inherited(self, found: Found) -> Found | None:
        """What was found below, as one of its heir's where its conversation has been deleted here."""
        if (found.scope, found.name) not in self._gone:
            return found
        node = self._nodes.get(found.turn.id)
        return None if node is None else dataclasses.replace(found, scope=node.owner[0], name=node.owner[1])

    def spent(self, since: float) -> Iterator[Spent]:
        """What was used since a time."""
        if self._below is not None:
            yield from self._below.spent(since)
        for key, replies, values in self._spent:
            used = usage_from(values)
            if used is not None and used[0] >= since:
                yield Spent(used[0], used[1], key[1] if key else "", replies, used[2])

    def note(self, origin: Origin, now_s: float) -> None:
        """Remember that a cell of a notebook has made a turn."""
        known = self.notebook(origin.scope) or first_known(origin)
        self._notebooks[origin.scope] = known.after(origin, max(0.0, now_s))

    def notebook(self, scope: str) -> KnownNotebook | None:
        """Return the notebook of a scope."""
        if scope in self._notebooks or self._below is None:
            return self._notebooks.get(scope)
        return self._below.notebook(scope)

    def notebooks(self, cells: frozenset[str], path: str, kernel: str) -> list[KnownNotebook]:
        """Return the notebooks that are told by any of these."""
        below = [] if self._below is None else self._below.notebooks(cells, path, kernel)
        found = [known for known in below if known.scope not in self._notebooks]
        own = [known for known in self._notebooks.values() if known is not None]
        return found + [known for known in own if known.is_told_by(cells, path, kernel)]


def temporary_ids(number: int) -> Iterator[int]:
    """The names of the turns that an operation makes, until they are in a file.

    Args:
        number: Number of the operation, >= 1.

    Returns:
        Numbers below zero, others for each operation.
    """
    return itertools.count(-(number << 24), -1)
