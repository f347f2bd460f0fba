"""Values and rules that every other sub-package uses.

- `errors`: the tree of errors; `messages`: messages, requests, replies; `embeddings`: the same for vectors; `answers`:
  which reply is an answer; `usage`: tokens and cost; `prices`; `rate_limits`: those of a server.
- `options`: sampling options, and those of one call; `vendor_options`: any other option of an API.
- `settings`: merged from the environment, the file and the defaults; `config_file`: the TOML file; `config_edit`:
  changes in it; `endpoints`: the address and the key of a provider; `keys`: keys that were entered; `secrets`; `urls`:
  URLs and proxies; `installation`: the command that installs an extra.
- `sync`: coroutines called from synchronous code, with `interrupts` (SIGINT) and `private_loop` (event loops);
  `user_warnings`: warnings at the user's own line.
- `json_text`: JSON found in prose; `quick`: frozen values, made quickly; `sharing`: tuples that have most in common.

Not here: whatever needs a socket (`http`) or a database (`store`).
"""
