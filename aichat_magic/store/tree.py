"""What a store of conversations is made of: turns that grow from each other, and what can be done to them.

A conversation is a name for one turn, its head; its turns are that one and those it grew from. So branches share their
past, and going back destroys nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from ..core.errors import BadInputError, UnknownNameError
from ..text.words import shorten
from .records import Said
from .sql_tree import ConversationRecord, Key, SqlTurnTree


def append(forest: SqlTurnTree, key: Key, said: Said, system: str, is_new: bool, now_s: float) -> int:
    """Add a turn after the newest one, or as the first of a new branch; its name."""
    talk = _opened(forest, key, now_s)
    turn = forest.add(key, None if is_new else talk.head, forest.keep(said))
    forest.put(key, ConversationRecord(turn, system or talk.system, now_s))
    return turn


def replace(forest: SqlTurnTree, key: Key, old: int, said: Said, system: str, now_s: float) -> int:
    """Put another turn in the place of one, on a new branch that the later turns are on, too; its name."""
    talk = _opened(forest, key, now_s)
    path = forest.path(talk.head)
    place = next((place for place, (turn, _) in enumerate(path) if turn == forest.resolve(old)), len(path))
    head = new = forest.add(key, path[place - 1][0] if place else None, forest.keep(said))
    for _, later in path[place + 1 :]:
        head = forest.add(key, head, later)
    forest.put(key, ConversationRecord(head, system or talk.system, now_s))
    return new


def drop(forest: SqlTurnTree, key: Key, turns: Collection[int], now_s: float) -> None:
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


def rewind(forest: SqlTurnTree, key: Key, to: int | None, now_s: float) -> None:
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


def fork(forest: SqlTurnTree, key: Key, other: Key, now_s: float) -> None:
    """Give another name to where a conversation is."""
    talk = forest.talk(key)
    if talk is None:
        raise _unknown(key)
    if forest.talk(other) is not None:
        raise BadInputError(f"There is a conversation {shorten(other[1], 40)!r} already. Choose another name.")
    forest.put(other, dataclasses.replace(talk, updated=now_s))


def _opened(forest: SqlTurnTree, key: Key, now_s: float) -> ConversationRecord:
    """The conversation, made if there is none."""
    talk = forest.talk(key)
    if talk is None:
        talk = ConversationRecord(None, "", now_s)
        forest.put(key, talk)
    return talk


def _unknown(key: Key) -> UnknownNameError:
    return UnknownNameError(f"There is no conversation {shorten(key[1], 40)!r}. %aichat chats lists them.")
