"""The tables of the conversations file, and how a file of release 0.1 is brought up to date."""

from __future__ import annotations

from typing import Final

from .database import TableLayout

# Scope and name of a conversation.
Key = tuple[str, str]

# The id of a conversation, by its scope and name.
FIND_CONVERSATION: Final = "SELECT id FROM conversations WHERE scope = ? AND name = ?"

# The parent of a turn has a lower id, always: so no branch has a circle, whatever is in the file. Ids are not used
# again, because other kernels may hold them. The content of a turn is in a table of its own (`said`): a turn that is
# copied to another branch has the same content. So is usage (`spent`): it outlives the conversation. Texts are BLOBs
# and come last, as in `rows`.
# Version 2 knows notebooks by their cells. Release 0.1 knew them by their paths: its scopes keep their names, and the
# cells are found in the cell ids of its turns (scope#cell, scope#cell#...).
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
_NOTEBOOKS_OF_0_1: Final = (
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

# Version 3 counts the tokens of thinking and of writing to a cache, and keeps the model as the server resolved it.
_COUNTS_OF_3: Final = (
    "ALTER TABLE said ADD COLUMN reasoning_tokens INTEGER",
    "ALTER TABLE said ADD COLUMN cache_write_tokens INTEGER",
    "ALTER TABLE said ADD COLUMN model_version BLOB",
    "ALTER TABLE spent ADD COLUMN reasoning_tokens INTEGER",
    "ALTER TABLE spent ADD COLUMN cache_write_tokens INTEGER",
)

CONVERSATION_TABLES: Final = TableLayout(
    application_id=0x61694D32,
    version=3,
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
            reasoning_tokens INTEGER,
            cache_write_tokens INTEGER,
            model_version BLOB,
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
            reasoning_tokens INTEGER,
            cache_write_tokens INTEGER,
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
    migrations={1: (*_NOTEBOOKS, *_NOTEBOOKS_OF_0_1), 2: _COUNTS_OF_3},
)
