"""Replies by the SHA-256 of their whole request: resume journal, cache and deduplication over time in one.

The rest of the package knows `ReplyStore` only: a few methods behind which a shared store on a server can stand.
"""

from .base import ReplyStore, StoreSummary
from .keys import SCHEMA, RequestKeys, request_key
from .memory import MemoryStore
from .replies import SqliteStore, open_store

__all__ = [
    "SCHEMA",
    "MemoryStore",
    "ReplyStore",
    "RequestKeys",
    "SqliteStore",
    "StoreSummary",
    "open_store",
    "request_key",
]
