"""Values and rules that every other sub-package uses.

`errors` (the tree of errors), `messages` (messages, requests, replies), `embeddings` (the same for vectors), `answers`
(which reply is an answer), `usage` (tokens and cost), `prices`, `options` (sampling options, and those of one call),
`settings` (merged from the environment, the file and the defaults), `config_file` (the TOML file), `secrets`, `urls`
(URLs and proxies), `json_text` (JSON found in prose), `quick` (frozen values, made quickly), `sync` (coroutines called
from synchronous code) with `interrupts` (SIGINT) and `private_loop` (event loops).

Not here: whatever needs a socket (`http`) or a database (`store`).
"""
