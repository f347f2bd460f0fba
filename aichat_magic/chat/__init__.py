"""Asking a model: `ask` and `stream`, conversations, retries.

`api` has the functions for users; `chat` sends a request and returns the reply, for every caller; `conversation` keeps
the turns and sends them again; `retry` decides when to try again; `embedding` sends texts for vectors instead;
`keywords` describes the keywords of a call. Nothing here knows rows, frames or the notebook.
"""
