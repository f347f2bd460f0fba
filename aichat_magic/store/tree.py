"""The branching tree of turns in an SQLite database: a file, inside a transaction of the caller's, or memory.

Each turn but the first has a parent. A conversation is a name for one turn, its head; its turns are the head and its
ancestors. So branches share their past, and going back destroys nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..core.errors import BadInputError, UnknownNameError
from ..text.words import shorten
from .conversation_tables import FIND_CONVERSATION, Key
from .notebooks import forget_notebook
from .records import (
    FIRST_PROMPT_CHARS,
    TURN_COLUMNS,
    ConversationSummary,
    SearchHit,
    StoredConversation,
    TurnRow,
    excerpt_of,
    turn_from,
)
from .rows import from_blob, is_time, to_blob

_CONTENT: Final = ", ".join(f"said.{column}" for column in TURN_COLUMNS)
_BRANCH: Final = """
    WITH RECURSIVE branch(id, parent, said) AS (
        SELECT id, parent, said FROM turns WHERE id = ?
        UNION ALL
        SELECT turns.id, turns.parent, turns.said
        FROM branch JOIN turns ON turns.id = branch.parent AND turns.id < branch.id
    )
"""
_SUMMARIES: Final = """
    WITH RECURSIVE branch(conversation, id, parent) AS (
        SELECT conversations.id, turns.id, turns.parent
        FROM conversations JOIN turns ON turns.id = conversations.head WHERE scope IN (?, x'')
        UNION ALL
        SELECT branch.conversation, turns.id, turns.parent
        FROM branch JOIN turns ON turns.id = branch.parent AND turns.id < branch.id
    )
    SELECT scope, name, updated_s, coalesce(branches.turns, 0), said.prompt
    FROM conversations
    LEFT JOIN (SELECT conversation, count(*) AS turns, min(id) AS first FROM branch GROUP BY conversation) AS branches
        ON branches.conversation = conversations.id
    LEFT JOIN turns ON turns.id = branches.first
    LEFT JOIN said ON said.id = turns.said
    WHERE scope IN (?, x'')
"""
# Above every id that a file will ever give. Each change has a range of its own.
_FIRST_TEMPORARY_ID: Final = 1 << 52
_IDS_PER_CHANGE: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """A conversation: its newest turn, and its system message.

    Attributes:
        head: Id of its newest turn, None before the first.
        system: Its system message.
        updated: When it was last changed, in seconds since 1970.
    """

    head: int | None
    system: str
    updated: float


class TurnTree:
    """The turns and conversations of a database.

    Attributes:
        connection: The database.
        new_ids: The ids of the turns that were added, by their temporary ids.
    """

    def __init__(
        self, connection: sqlite3.Connection, written_ids: Mapping[int, int] | None = None, *, is_draft: bool = False
    ) -> None:
        """Use a database.

        Args:
            connection: The open file, or a database in memory.
            written_ids: The ids of turns that had temporary ids before they were written, by these.
            is_draft: Whether turns keep their temporary ids, because they are not written yet.
        """
        self.connection = connection
        self.new_ids: dict[int, int] = {}
        self._execute = connection.execute
        self._written_ids = written_ids or {}
        self._is_draft = is_draft
        self._temporary_ids = _temporary_ids(1)

    def begin_change(self, number: int) -> None:
        """Set which change follows, so that its turns get the same temporary ids each time it is made."""
        self._temporary_ids = _temporary_ids(number)

    # Changes

    def append(self, key: Key, row: TurnRow, *, system: str, is_new: bool, now_s: float) -> int:
        """Add a turn after the newest one, or as the first of a new branch.

        Returns:
            Its id.
        """
        record = self._ensure(key, now_s)
        turn = self._add_turn(key, None if is_new else record.head, self._add_content(row))
        self._save(key, ConversationRecord(turn, system or record.system, now_s))
        return turn

    def replace(self, key: Key, old: int, row: TurnRow, *, system: str, now_s: float) -> int:
        """Put another turn in the place of one, on a new branch that the later turns are copied to.

        Returns:
            The id of the new turn.
        """
        record = self._ensure(key, now_s)
        branch = self._branch(record.head)
        place = next((place for place, (turn, _) in enumerate(branch) if turn == self._resolve(old)), len(branch))
        head = new = self._add_turn(key, branch[place - 1][0] if place else None, self._add_content(row))
        for _, content in branch[place + 1 :]:
            head = self._add_turn(key, head, content)
        self._save(key, ConversationRecord(head, system or record.system, now_s))
        return new

    def drop(self, key: Key, turns: Collection[int], now_s: float) -> None:
        """Continue on a new branch without some turns. Nothing is destroyed."""
        record = self._record(key)
        if record is None:
            return
        dropped = {self._resolve(turn) for turn in turns}
        head, is_shared = None, True
        for turn, content in self._branch(record.head):
            if turn in dropped:
                is_shared = False
            else:
                head = turn if is_shared else self._add_turn(key, head, content)
        if not is_shared:
            self._save(key, dataclasses.replace(record, head=head, updated=now_s))

    def rewind(self, key: Key, to: int | None, now_s: float) -> None:
        """Make an earlier turn the newest one, or a turn of a branch that was left; None: before the first."""
        record = self._record(key)
        head = None if to is None else self._resolve(to)
        if record is None and head is None:
            return
        if record is None:
            raise _unknown(key)
        is_here = (
            head is None or self._is_turn_of(key, head) or any(head == turn for turn, _ in self._branch(record.head))
        )
        if not is_here:
            raise UnknownNameError(f"There is no turn {to} in the conversation {shorten(key[1], 40)!r} any more.")
        self._save(key, dataclasses.replace(record, head=head, updated=now_s))

    def fork(self, key: Key, other: Key, now_s: float) -> None:
        """Begin another conversation at the newest turn of one."""
        record = self._record(key)
        if record is None:
            raise _unknown(key)
        if self._record(other) is not None:
            raise BadInputError(f"There is a conversation {shorten(other[1], 40)!r} already. Choose another name.")
        self._save(other, dataclasses.replace(record, updated=now_s))

    def delete(self, key: Key) -> bool:
        """Remove a conversation; turns that other conversations have are given to these.

        Returns:
            Whether there was one.
        """
        found = self._execute(FIND_CONVERSATION, _blobs(key)).fetchone()
        if key[0]:
            forget_notebook(self.connection, key[0])  # also one that has turns in shared conversations only
        if found is None:
            return False
        (deleted,) = found
        self._execute("DELETE FROM conversations WHERE id = ?", (deleted,))
        shared = self._execute(
            """
            SELECT head, id FROM conversations WHERE head IN (SELECT id FROM turns WHERE conversation = :deleted)
            UNION
            SELECT parent, conversation FROM turns
            WHERE conversation <> :deleted AND parent IN (SELECT id FROM turns WHERE conversation = :deleted)
            """,
            {"deleted": deleted},
        ).fetchall()
        for turn, heir in shared:
            self._give_branch(turn, deleted, heir)
        self._execute(
            """
            DELETE FROM said WHERE id IN (SELECT said FROM turns WHERE conversation = :deleted)
            AND id NOT IN (SELECT said FROM turns WHERE conversation <> :deleted)
            """,
            {"deleted": deleted},
        )
        self._execute("DELETE FROM turns WHERE conversation = ?", (deleted,))
        self._execute("UPDATE spent SET conversation = NULL WHERE conversation = ?", (deleted,))
        return True

    # Reading

    def load(self, key: Key, known: StoredConversation | None = None) -> StoredConversation | None:
        """Return a conversation with its turns, without those that have invalid values; None when there is none.

        Args:
            key: Scope and name.
            known: The conversation as it was read before. What is still the same is taken from it, and not read again.
        """
        record = self._record(key)
        if record is None:
            return None
        old = known.turns if known else ()
        places = {turn.id: place for place, turn in enumerate(old)}
        # CROSS JOIN: SQLite reads the tables in this order, from the newest turn on, a row at a time.
        sql = f"{_BRANCH} SELECT branch.id, {_CONTENT} FROM branch CROSS JOIN said ON said.id = branch.said"
        n_same, new = 0, []
        with contextlib.closing(self._execute(sql, (record.head,))) as rows:
            for turn_id, *row in rows:
                place = places.get(turn_id)
                # Ids are not used again in a file, but another file may have taken its place.
                if place is not None and old[place].created == row[0]:
                    n_same = place + 1
                    break
                if (turn := turn_from(turn_id, tuple(row))) is not None:
                    new.append(turn)
        turns = old if n_same == len(old) and not new else (*old[:n_same], *reversed(new))
        return StoredConversation(system=record.system, turns=turns)

    def summaries(self, scope: str) -> list[ConversationSummary]:
        """Return the conversations of a scope and the shared ones."""
        found = []
        for row in self._execute(_SUMMARIES, (to_blob(scope), to_blob(scope))).fetchall():
            owner, name, updated_s, turns, prompt = row
            owner, name = from_blob(owner), from_blob(name)
            if owner is not None and name is not None and is_time(updated_s):
                first_prompt = (from_blob(prompt) or "")[:FIRST_PROMPT_CHARS]
                found.append(
                    ConversationSummary(
                        scope=owner, name=name, turns=turns, first_prompt=first_prompt, updated=updated_s
                    )
                )
        return found

    def scopes(self, name: str) -> list[str]:
        """Return the scopes that have a conversation of this name."""
        rows = self._execute("SELECT scope FROM conversations WHERE name = ?", (to_blob(name),)).fetchall()
        return [scope for (value,) in rows if (scope := from_blob(value)) is not None]

    def search(self, text: str, limit: int) -> list[SearchHit]:
        """Return the turns that contain a text, the newest first."""
        hits: list[SearchHit] = []
        with contextlib.closing(
            self._execute(f"SELECT said.id, {_CONTENT} FROM said ORDER BY created_s DESC, id DESC")
        ) as rows:
            for content, *row in rows:
                if len(hits) >= limit:
                    break
                turn = turn_from(content, tuple(row))
                excerpt = excerpt_of(turn, text) if turn is not None else None
                if excerpt is not None and (hit := self._hit(content, tuple(row), excerpt)) is not None:
                    hits.append(hit)
        return hits

    # Rows

    def _record(self, key: Key) -> ConversationRecord | None:
        """Return the conversation of a name; None when there is none."""
        sql = "SELECT head, system, updated_s FROM conversations WHERE scope = ? AND name = ?"
        row = self._execute(sql, _blobs(key)).fetchone()
        if row is None:
            return None
        head, system, updated_s = row
        return ConversationRecord(
            head if type(head) is int else None, from_blob(system) or "", updated_s if is_time(updated_s) else 0.0
        )

    def _ensure(self, key: Key, now_s: float) -> ConversationRecord:
        """Return the conversation of a name, and create it where there is none."""
        record = self._record(key)
        if record is None:
            record = ConversationRecord(None, "", now_s)
            self._save(key, record)
        return record

    def _save(self, key: Key, record: ConversationRecord) -> None:
        """Create or change a conversation."""
        values = (record.head, to_blob(record.system), max(0.0, record.updated), *_blobs(key))
        sql = "UPDATE conversations SET head = ?, system = ?, updated_s = ? WHERE scope = ? AND name = ?"
        if self._execute(sql, values).rowcount == 0:
            self._execute(
                "INSERT INTO conversations (head, system, updated_s, scope, name) VALUES (?, ?, ?, ?, ?)", values
            )

    def _add_content(self, row: TurnRow) -> int:
        """Store the content of a turn, and return its id."""
        sql = f"INSERT INTO said ({', '.join(TURN_COLUMNS)}) VALUES ({', '.join('?' * len(TURN_COLUMNS))})"
        return self._execute(sql, row).lastrowid or 0

    def _add_turn(self, key: Key, parent: int | None, content: int) -> int:
        """Add a turn to a conversation, and return its id."""
        temporary = next(self._temporary_ids)
        sql = f"INSERT INTO turns (id, parent, said, conversation) VALUES (?, ?, ?, ({FIND_CONVERSATION}))"
        values = (temporary if self._is_draft else None, parent, content, *_blobs(key))
        turn = self._execute(sql, values).lastrowid or 0
        self.new_ids[temporary] = turn
        return turn

    def _resolve(self, turn: int) -> int:
        """Return the id of a turn in the file, if it is given by its temporary id."""
        return self.new_ids.get(turn) or self._written_ids.get(turn, turn)

    def _branch(self, head: int | None) -> list[tuple[int, int]]:
        """Return the ids of the turns up to a head, from the first on, each with the id of its content."""
        return sorted(self._execute(f"{_BRANCH} SELECT id, said FROM branch", (head,)).fetchall())

    def _is_turn_of(self, key: Key, turn: int) -> bool:
        """Tell whether a turn was made in this conversation."""
        if abs(turn) >= 2**63:
            return False
        sql = f"SELECT 1 FROM turns WHERE id = ? AND conversation = ({FIND_CONVERSATION})"
        return self._execute(sql, (turn, *_blobs(key))).fetchone() is not None

    def _give_branch(self, turn: Any, deleted: int, heir: int) -> None:
        """Give a turn and its ancestors to another conversation, as far as they belong to the deleted one."""
        while True:
            sql = "UPDATE turns SET conversation = ? WHERE id = ? AND conversation = ?"
            if self._execute(sql, (heir, turn, deleted)).rowcount == 0:
                return
            (turn,) = self._execute("SELECT parent FROM turns WHERE id = ?", (turn,)).fetchone()

    def _hit(self, content: int, row: TurnRow, excerpt: str) -> SearchHit | None:
        """Return the newest turn with a content, and its conversation."""
        sql = """
            SELECT turns.id, scope, name FROM turns JOIN conversations ON conversations.id = turns.conversation
            WHERE said = ? ORDER BY turns.id DESC LIMIT 1
        """
        found = self._execute(sql, (content,)).fetchone()
        turn = None if found is None else turn_from(found[0], row)
        if turn is None:
            return None
        return SearchHit(scope=from_blob(found[1]) or "", name=from_blob(found[2]) or "", turn=turn, excerpt=excerpt)


def _temporary_ids(number: int) -> Iterator[int]:
    """Return the temporary ids for the turns of a change."""
    return itertools.count(_FIRST_TEMPORARY_ID + number * _IDS_PER_CHANGE)


def _blobs(key: Key) -> tuple[bytes, bytes]:
    return to_blob(key[0]), to_blob(key[1])


def _unknown(key: Key) -> UnknownNameError:
    return UnknownNameError(f"There is no conversation {shorten(key[1], 40)!r}. %aichat chats lists them.")
