"""Asking a model: `ask` and `stream`, conversations, retries.

`api` has the functions for users; `chat` sends a request and returns the reply, for every caller; `conversation` keeps
the turns and sends them again; `retry` decides when to try again; `notices` has what is said of a cut reply, or of a
model before its first one, and `remarks` gives remarks on replies as warnings; `embedding` sends texts for vectors
instead; `keywords` describes the keywords of a call. Nothing here knows rows, frames or the notebook.
"""
