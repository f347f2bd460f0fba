"""Conversations in an SQLite database: a file, inside a transaction that somebody else began, or memory."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..core.usage import Usage
from .database import TableLayout
from .origins import KnownNotebook, Origin
from .records import (
    FIRST_PROMPT_CHARS,
    SAID,
    ConversationSummary,
    Said,
    SearchHit,
    StoredConversation,
    decoded,
    encoded,
    excerpt_of,
    is_time,
    turn_from,
    usage_from,
)

# A turn grows from one with a lower id, always: so no path has a circle, whatever stands in the file. Ids are not used
# again, because other kernels may hold them. What was said stands apart: a turn that is copied onto another branch says
# the same. Usage stands apart, too: it outlives what was said. Texts are BLOBs and stand last, as in `rows`.
# Version 2 knows notebooks by their cells. Release 0.1 knew them by their paths: its scopes stay what they are called,
# and the cells are found in the names of its turns (scope#cell, scope#cell#...).
_NOTEBOOKS: Final = (
    """
    CREATE TABLE notebooks (
        scope BLOB PRIMARY KEY,
        path BLOB NOT NULL,
        kernel BLOB NOT NULL,
        is_certain INTEGER NOT NULL,
        updated_s REAL NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE TABLE cells (cell BLOB NOT NULL, scope BLOB NOT NULL, PRIMARY KEY (cell, scope)) WITHOUT ROWID",
    "CREATE INDEX cells_by_scope ON cells (scope)",
)
_TAKEN_OVER: Final = (
    """
    INSERT INTO notebooks SELECT scope, substr(scope, 10), x'', 0, max(updated_s) FROM conversations
    WHERE substr(scope, 1, 9) = CAST('notebook:' AS BLOB) GROUP BY scope
    """,
    """
    INSERT OR IGNORE INTO cells
    WITH named AS (
        SELECT scope, substr(said.cell_id, length(scope) + 2) || '#' AS rest
        FROM conversations JOIN turns ON turns.conversation = conversations.id JOIN said ON said.id = turns.said
        WHERE scope IN (SELECT scope FROM notebooks)
        AND substr(said.cell_id, 1, length(scope) + 1) = CAST(scope || '#' AS BLOB)
    ), parted AS (
        SELECT scope, substr(rest, 1, instr(rest, '#') - 1) AS cell FROM named
    )
    SELECT CAST(cell AS BLOB), scope FROM parted WHERE cell <> '' AND cell NOT GLOB '*[^a-zA-Z0-9_-]*'
    """,
)

CONVERSATIONS: Final = TableLayout(
    application_id=0x61694D32,
    version=2,
    create=(
        """
        CREATE TABLE said (
            id INTEGER PRIMARY KEY,
            created_s REAL NOT NULL,
            finish_reason TEXT NOT NULL,
            model BLOB NOT NULL,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cached_tokens INTEGER,
            cost_usd REAL,
            elapsed_s REAL NOT NULL,
            cell_id BLOB NOT NULL,
            notebook BLOB NOT NULL,
            options BLOB NOT NULL,
            prompt BLOB NOT NULL,
            text BLOB NOT NULL
        )
        """,
        """
        CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            parent INTEGER,
            conversation INTEGER NOT NULL,
            said INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE conversations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope BLOB NOT NULL,
            name BLOB NOT NULL,
            head INTEGER,
            system BLOB NOT NULL,
            updated_s REAL NOT NULL,
            UNIQUE (scope, name)
        )
        """,
        """
        CREATE TABLE spent (
            id INTEGER PRIMARY KEY,
            created_s REAL NOT NULL,
            model BLOB NOT NULL,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cached_tokens INTEGER,
            cost_usd REAL,
            replies INTEGER NOT NULL,
            conversation INTEGER
        )
        """,
        "CREATE INDEX said_by_time ON said (created_s)",
        "CREATE INDEX turns_by_parent ON turns (parent)",
        "CREATE INDEX turns_by_conversation ON turns (conversation)",
        "CREATE INDEX turns_by_said ON turns (said)",
        "CREATE INDEX spent_by_time ON spent (created_s)",
        *_NOTEBOOKS,
    ),
    migrations={1: (*_NOTEBOOKS, *_TAKEN_OVER)},
)

_SAID: Final = ", ".join(f"said.{column}" for column in SAID)
_UP: Final = """
    WITH RECURSIVE up(id, parent, said) AS (
        SELECT id, parent, said FROM turns WHERE id = ?
        UNION ALL
        SELECT turns.id, turns.parent, turns.said FROM up JOIN turns ON turns.id = up.parent AND turns.id < up.id
    )
"""
_NAMES: Final = """
    WITH RECURSIVE up(conversation, id, parent) AS (
        SELECT conversations.id, turns.id, turns.parent
        FROM conversations JOIN turns ON turns.id = conversations.head WHERE scope IN (?, x'')
        UNION ALL
        SELECT up.conversation, turns.id, turns.parent
        FROM up JOIN turns ON turns.id = up.parent AND turns.id < up.id
    )
    SELECT scope, name, updated_s, coalesce(paths.turns, 0), said.prompt
    FROM conversations
    LEFT JOIN (SELECT conversation, count(*) AS turns, min(id) AS first FROM up GROUP BY conversation) AS paths
        ON paths.conversation = conversations.id
    LEFT JOIN turns ON turns.id = paths.first
    LEFT JOIN said ON said.id = turns.said
    WHERE scope IN (?, x'')
"""
# Above every id that a file will ever give; those of an operation stand apart from the next one's.
_TEMPORARY: Final = 1 << 52
_TURNS_AT_ONCE: Final = 1 << 24
_MOST_VALUES: Final = 500  # of one statement; SQLite takes 999 or more
_FIND: Final = "SELECT id FROM conversations WHERE scope = ? AND name = ?"

# Scope and name of a conversation.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ConversationRecord:
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
class UsageRecord:
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


class SqlTurnTree:
    """Turns and conversations as rows."""

    def __init__(
        self, connection: sqlite3.Connection, written: Mapping[int, int] | None = None, *, is_draft: bool = False
    ) -> None:
        """Look at a database.

        Args:
            connection: The open file, or one in memory.
            written: The ids of turns that had temporary names before they were written, by those.
            is_draft: Whether turns keep their temporary names as ids, because they are not written yet.
        """
        self.fresh: dict[int, int] = {}
        self._execute = connection.execute
        self._written = written or {}
        self._is_draft = is_draft
        self._temporary: Iterator[int] = _temporary_ids(1)

    def begin(self, number: int) -> None:
        """Say which operation follows, so that its turns get the same names each time it is carried out."""
        self._temporary = _temporary_ids(number)

    def resolve(self, turn: int) -> int:
        """Return the turn's id in the file, if the name is one from before it was written."""
        return self.fresh.get(turn) or self._written.get(turn, turn)

    def talk(self, key: Key) -> ConversationRecord | None:
        """The conversation of this name."""
        row = self._execute(
            "SELECT head, system, updated_s FROM conversations WHERE scope = ? AND name = ?", _bytes(key)
        ).fetchone()
        if row is None:
            return None
        head, system, updated_s = row
        return ConversationRecord(
            head if type(head) is int else None, decoded(system) or "", updated_s if is_time(updated_s) else 0.0
        )

    def put(self, key: Key, talk: ConversationRecord) -> None:
        """Make or change a conversation."""
        values = (talk.head, encoded(talk.system), max(0.0, talk.updated), *_bytes(key))
        sql = "UPDATE conversations SET head = ?, system = ?, updated_s = ? WHERE scope = ? AND name = ?"
        if self._execute(sql, values).rowcount == 0:
            self._execute(
                "INSERT INTO conversations (head, system, updated_s, scope, name) VALUES (?, ?, ?, ?, ?)", values
            )

    def keep(self, said: Said) -> int:
        """Store what was said, and give it a number."""
        sql = f"INSERT INTO said ({', '.join(SAID)}) VALUES ({', '.join('?' * len(SAID))})"
        return self._execute(sql, said).lastrowid or 0

    def add(self, key: Key, parent: int | None, said: int) -> int:
        """Let a turn of a conversation grow from another one, and give it a name."""
        temporary = next(self._temporary)
        sql = f"INSERT INTO turns (id, parent, said, conversation) VALUES (?, ?, ?, ({_FIND}))"
        values = (temporary if self._is_draft else None, parent, said, *_bytes(key))
        turn = self._execute(sql, values).lastrowid or 0
        self.fresh[temporary] = turn
        return turn

    def path(self, head: int | None) -> list[tuple[int, int]]:
        """Return the turns up to a head, from the first on, each with the number of what was said."""
        return sorted(self._execute(f"{_UP} SELECT id, said FROM up", (head,)).fetchall())

    def _line(self, head: int | None) -> list[tuple[int, int, Said]]:
        """As `path`, with what was said."""
        # CROSS JOIN: the order of the tables is the order of the work.
        sql = f"{_UP} SELECT up.id, up.said, {_SAID} FROM up CROSS JOIN said ON said.id = up.said"
        rows = self._execute(sql, (head,)).fetchall()
        return [(row[0], row[1], row[2:]) for row in sorted(rows, key=lambda row: int(row[0]))]

    def owns(self, key: Key, turn: int) -> bool:
        """Whether a turn was made by this conversation."""
        if abs(turn) >= 2**63:
            return False
        sql = f"SELECT 1 FROM turns WHERE id = ? AND conversation = ({_FIND})"
        return self._execute(sql, (turn, *_bytes(key))).fetchone() is not None

    def delete(self, key: Key) -> bool:
        """Remove a conversation, if there is one; turns that others grew from are theirs from now on."""
        found = self._execute(_FIND, _bytes(key)).fetchone()
        if found is None:
            return False
        (dead,) = found
        self._execute("DELETE FROM conversations WHERE id = ?", (dead,))
        heirs = self._execute(
            """
            SELECT head, id FROM conversations WHERE head IN (SELECT id FROM turns WHERE conversation = :dead)
            UNION
            SELECT parent, conversation FROM turns
            WHERE conversation <> :dead AND parent IN (SELECT id FROM turns WHERE conversation = :dead)
            """,
            {"dead": dead},
        ).fetchall()
        for turn, heir in heirs:
            self._inherit(turn, dead, heir)
        self._execute(
            """
            DELETE FROM said WHERE id IN (SELECT said FROM turns WHERE conversation = :dead)
            AND id NOT IN (SELECT said FROM turns WHERE conversation <> :dead)
            """,
            {"dead": dead},
        )
        self._execute("DELETE FROM turns WHERE conversation = ?", (dead,))
        self._execute("UPDATE spent SET conversation = NULL WHERE conversation = ?", (dead,))
        if key[0]:
            self._execute("DELETE FROM notebooks WHERE scope = ?", (encoded(key[0]),))
            self._execute("DELETE FROM cells WHERE scope = ?", (encoded(key[0]),))
        return True

    def spend(self, key: Key | None, replies: int, values: tuple[Any, ...]) -> None:
        """Note what was used, as `spent_from` gives it."""
        self._execute(
            "INSERT INTO spent (created_s, model, input_tokens, output_tokens, cached_tokens, cost_usd, replies, "
            f"conversation) VALUES (?, ?, ?, ?, ?, ?, ?, ({_FIND}))",
            (*values, replies, *(_bytes(key) if key else (None, None))),
        )

    def load(self, key: Key) -> StoredConversation | None:
        """The turns of a conversation."""
        talk = self.talk(key)
        if talk is None:
            return None
        turns = (turn_from(turn, said) for turn, _, said in self._line(talk.head))
        return StoredConversation(system=talk.system, turns=tuple(turn for turn in turns if turn is not None))

    def names(self, scope: str) -> list[ConversationSummary]:
        """The conversations of a scope and the shared ones."""
        found = []
        for row in self._execute(_NAMES, (encoded(scope), encoded(scope))).fetchall():
            owner, name, updated_s, turns, prompt = row
            owner, name = decoded(owner), decoded(name)
            if owner is not None and name is not None and is_time(updated_s):
                first_prompt = (decoded(prompt) or "")[:FIRST_PROMPT_CHARS]
                found.append(
                    ConversationSummary(
                        scope=owner, name=name, turns=turns, first_prompt=first_prompt, updated=updated_s
                    )
                )
        return found

    def scopes(self, name: str) -> list[str]:
        """Return the scopes that have a conversation of this name."""
        rows = self._execute("SELECT scope FROM conversations WHERE name = ?", (encoded(name),)).fetchall()
        return [scope for (value,) in rows if (scope := decoded(value)) is not None]

    def search(self, text: str, limit: int) -> list[SearchHit]:
        """Return the turns that hold a text, the newest first."""
        found: list[SearchHit] = []
        with contextlib.closing(
            self._execute(f"SELECT said.id, {_SAID} FROM said ORDER BY created_s DESC, id DESC")
        ) as rows:
            for number, *said in rows:
                if len(found) >= limit:
                    break
                turn = turn_from(number, tuple(said))
                excerpt = excerpt_of(turn, text) if turn is not None else None
                if excerpt is not None and (one := self._found(number, tuple(said), excerpt)) is not None:
                    found.append(one)
        return found

    def spent(self, since: float) -> Iterator[UsageRecord]:
        """What was used since a time."""
        sql = """
            SELECT created_s, model, input_tokens, output_tokens, cached_tokens, cost_usd, replies, name
            FROM spent LEFT JOIN conversations ON conversations.id = spent.conversation WHERE created_s >= ?
        """
        for *values, replies, name in self._execute(sql, (since,)).fetchall():
            used = usage_from(tuple(values))
            if used is not None and type(replies) is int and 0 <= replies < 2**63:
                yield UsageRecord(used[0], used[1], decoded(name) or "", replies, used[2])

    def note(self, origin: Origin, now_s: float) -> None:
        """Remember that a cell of a notebook has made a turn."""
        scope = encoded(origin.scope)
        self._execute(
            "INSERT OR REPLACE INTO notebooks (scope, path, kernel, is_certain, updated_s) VALUES (?, ?, ?, 1, ?)",
            (scope, encoded(origin.path), encoded(origin.kernel), max(0.0, now_s)),
        )
        if origin.cell:
            self._execute("INSERT OR IGNORE INTO cells (cell, scope) VALUES (?, ?)", (encoded(origin.cell), scope))

    def notebook(self, scope: str) -> KnownNotebook | None:
        """Return the notebook of a scope; None where none has made a turn."""
        sql = "SELECT path, kernel, is_certain, updated_s FROM notebooks WHERE scope = ?"
        row = self._execute(sql, (encoded(scope),)).fetchone()
        if row is None:
            return None
        path, kernel, is_certain, updated_s = decoded(row[0]), decoded(row[1]), row[2], row[3]
        if path is None or kernel is None or not is_time(updated_s):
            return None
        rows = self._execute("SELECT cell FROM cells WHERE scope = ?", (encoded(scope),)).fetchall()
        return KnownNotebook(
            scope=scope,
            path=path,
            kernel=kernel,
            cells=frozenset(cell for (value,) in rows if (cell := decoded(value))),
            is_certain=is_certain == 1,
            updated=updated_s,
        )

    def notebooks(self, cells: frozenset[str], path: str, kernel: str) -> list[KnownNotebook]:
        """Return those that have one of the cells, were last at the path or ran in the kernel; empty: not asked."""
        sql = "SELECT scope FROM notebooks WHERE (path = ?1 AND ?1 <> x'') OR (kernel = ?2 AND ?2 <> x'')"
        found: dict[Any, None] = dict.fromkeys(self._execute(sql, (encoded(path), encoded(kernel))))
        wanted = [encoded(cell) for cell in sorted(cells)]
        for at in range(0, len(wanted), _MOST_VALUES):
            some = wanted[at : at + _MOST_VALUES]
            sql = f"SELECT DISTINCT scope FROM cells WHERE cell IN ({', '.join('?' * len(some))})"
            found |= dict.fromkeys(self._execute(sql, some))
        scopes = [scope for (value,) in found if (scope := decoded(value)) is not None]
        return [known for scope in scopes if (known := self.notebook(scope)) is not None]

    def _found(self, number: int, said: Said, excerpt: str) -> SearchHit | None:
        """The newest turn in which this was said, and whose it is."""
        sql = """
            SELECT turns.id, scope, name FROM turns JOIN conversations ON conversations.id = turns.conversation
            WHERE said = ? ORDER BY turns.id DESC LIMIT 1
        """
        row = self._execute(sql, (number,)).fetchone()
        turn = None if row is None else turn_from(row[0], said)
        if turn is None:
            return None
        return SearchHit(scope=decoded(row[1]) or "", name=decoded(row[2]) or "", turn=turn, excerpt=excerpt)

    def _inherit(self, turn: Any, dead: int, heir: int) -> None:
        """Give a turn and those it grew from to another conversation, as far as they were of the one that goes."""
        while True:
            sql = "UPDATE turns SET conversation = ? WHERE id = ? AND conversation = ?"
            if self._execute(sql, (heir, turn, dead)).rowcount == 0:
                return
            (turn,) = self._execute("SELECT parent FROM turns WHERE id = ?", (turn,)).fetchone()


def _temporary_ids(number: int) -> Iterator[int]:
    """Return the names of the turns that an operation makes, until they are in a file; others for each operation."""
    return itertools.count(_TEMPORARY + number * _TURNS_AT_ONCE)


def _bytes(key: Key) -> tuple[bytes, bytes]:
    return encoded(key[0]), encoded(key[1])
