"""Values and rules that every other sub-package uses.

`errors` (the tree of errors), `messages` (messages, requests, replies), `answers` (which reply is an answer), `usage`
(tokens and cost), `options` (sampling settings, and what a caller gives), `settings` (where a value comes from),
`prices`, `secrets`, `urls` (URLs and proxies), `json_text` (JSON found in prose), `sync` (synchronous code runs a
coroutine).

What needs a socket lives in `http`, what needs a file of ours in `store`.
"""
