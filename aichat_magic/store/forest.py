"""What a store of conversations is made of: turns that grow from each other, and what can be done to them.

A conversation is a name for one turn, its head; its turns are that one and those it grew from. So branches share their
past, and going back destroys nothing. The operations stand here once, for the file and for memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import BadInputError, UnknownNameError, shorten
from ..messages import Usage
from .origins import KnownNotebook, Origin
from .turns import ConversationSummary, Found, Said, StoredConversation

# Scope and name of a conversation.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation: where it is, and its system message.

    Attributes:
        head: Its newest turn, None before the first.
        system: Its system message.
        updated: When it was last changed, in seconds since 1970.
    """

    head: int | None
    system: str
    updated: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used at one time.

    Attributes:
        created: When, in seconds since 1970.
        model: ``provider/model``.
        conversation: Name of the conversation, empty for none.
        replies: How many replies.
        usage: Their sum.
    """

    created: float
    model: str
    conversation: str
    replies: int
    usage: Usage


class Forest(Protocol):
    """Turns, what was said in them, conversations, and what was spent."""

    def begin(self, number: int) -> None:
        """Say which operation follows, so that its turns get the same names each time it is carried out."""

    def resolve(self, turn: int) -> int:
        """The turn that is meant, if the name is one from before it was written."""

    def talk(self, key: Key) -> Talk | None:
        """The conversation of this name."""

    def put(self, key: Key, talk: Talk) -> None:
        """Make or change a conversation."""

    def keep(self, said: Said) -> int:
        """Store what was said, and give it a number."""

    def add(self, key: Key, parent: int | None, said: int) -> int:
        """Let a turn of a conversation grow from another one, and give it a name."""

    def path(self, head: int | None) -> list[tuple[int, int]]:
        """The turns up to a head, from the first on, each with the number of what was said."""

    def owns(self, key: Key, turn: int) -> bool:
        """Whether a turn was made by this conversation."""

    def delete(self, key: Key) -> bool:
        """Remove a conversation and the turns that no other one has; whether there was one."""

    def spend(self, key: Key | None, replies: int, values: tuple[Any, ...]) -> None:
        """Note what was used, as `spent_from` gives it."""

    def load(self, key: Key) -> StoredConversation | None:
        """The turns of a conversation."""

    def names(self, scope: str) -> list[ConversationSummary]:
        """The conversations of a scope and the shared ones."""

    def scopes(self, name: str) -> list[str]:
        """Return the scopes that have a conversation of this name."""

    def search(self, text: str, limit: int) -> list[Found]:
        """Turns that hold a text, the newest first."""

    def spent(self, since: float) -> Iterable[Spent]:
        """What was used since a time."""

    def note(self, origin: Origin, now_s: float) -> None:
        """Remember that a cell of a notebook has made a turn."""

    def notebook(self, scope: str) -> KnownNotebook | None:
        """Return the notebook of a scope; None where none has made a turn."""

    def notebooks(self, cells: frozenset[str], path: str, kernel: str) -> list[KnownNotebook]:
        """Return the notebooks that are told by any of these, as `KnownNotebook.is_told_by`."""


def append(forest: Forest, key: Key, said: Said, system: str, is_new: bool, now_s: float) -> int:
    """Add a turn after the newest one, or as the first of a new branch; its name."""
    talk = _opened(forest, key, now_s)
    turn = forest.add(key, None if is_new else talk.head, forest.keep(said))
    forest.put(key, Talk(turn, system or talk.system, now_s))
    return turn


def replace(forest: Forest, key: Key, old: int, said: Said, system: str, now_s: float) -> int:
    """Put another turn in the place of one, on a new branch that the later turns are on, too; its name."""
    talk = _opened(forest, key, now_s)
    path = forest.path(talk.head)
    place = next((place for place, (turn, _) in enumerate(path) if turn == forest.resolve(old)), len(path))
    head = new = forest.add(key, path[place - 1][0] if place else None, forest.keep(said))
    for _, later in path[place + 1 :]:
        head = forest.add(key, head, later)
    forest.put(key, Talk(head, system or talk.system, now_s))
    return new


def drop(forest: Forest, key: Key, turns: Collection[int], now_s: float) -> None:
    """Go on on a new branch that some turns are not on. Nothing is destroyed."""
    talk = forest.talk(key)
    if talk is None:
        return
    gone = {forest.resolve(turn) for turn in turns}
    head, is_old = None, True
    for turn, said in forest.path(talk.head):
        if turn in gone:
            is_old = False
        else:
            head = turn if is_old else forest.add(key, head, said)
    if not is_old:
        forest.put(key, dataclasses.replace(talk, head=head, updated=now_s))


def rewind(forest: Forest, key: Key, to: int | None, now_s: float) -> None:
    """Make an earlier turn the newest one, or one that was left before."""
    talk = forest.talk(key)
    head = None if to is None else forest.resolve(to)
    if talk is None and head is None:
        return
    if talk is None:
        raise _unknown(key)
    if head is not None and not forest.owns(key, head) and all(turn != head for turn, _ in forest.path(talk.head)):
        raise UnknownNameError(f"There is no turn {to} in the conversation {shorten(key[1], 40)!r} any more.")
    forest.put(key, dataclasses.replace(talk, head=head, updated=now_s))


def fork(forest: Forest, key: Key, other: Key, now_s: float) -> None:
    """Give another name to where a conversation is."""
    talk = forest.talk(key)
    if talk is None:
        raise _unknown(key)
    if forest.talk(other) is not None:
        raise BadInputError(f"There is a conversation {shorten(other[1], 40)!r} already. Choose another name.")
    forest.put(other, dataclasses.replace(talk, updated=now_s))


def _opened(forest: Forest, key: Key, now_s: float) -> Talk:
    """The conversation, made if there is none."""
    talk = forest.talk(key)
    if talk is None:
        talk = Talk(None, "", now_s)
        forest.put(key, talk)
    return talk


def _unknown(key: Key) -> UnknownNameError:
    return UnknownNameError(f"There is no conversation {shorten(key[1], 40)!r}. %aichat chats lists them.")
