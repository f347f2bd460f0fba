"""Asking: `ask` and `stream`, conversations, retries.

`api` has the functions for users, `chat` the one path from a request to a reply, `conversation` its turns, `retry`
when to try again, `keywords` the types of what callers may give.
"""
