"""SQLite: replies by the hash of their request, and conversations. Nothing here knows providers or IPython.

Replies: `base` has the protocol of a store, `sqlite` the store in a file and `open_store`, `memory` the store without a
file, `keys` the hash of a request, `rows` a reply as a row, `writer` the thread that writes, `prune` the removal of old
replies, `vectors` the vectors of texts in the same file.

Conversations: `conversations` has the protocol, both stores and `open_conversations`, `records` their values, `tree`
the branching turns, `conversation_tables` the tables, `usage` and `notebooks` what else is in them, `write_behind` the
changes that wait for a locked file.

Both: `files` finds a file, `database` opens it, `inspect` checks it without changing it, `warnings` keeps warnings for
the caller's thread.
"""
