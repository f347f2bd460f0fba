"""SQLite: replies by the hash of their request, and conversations.

`base` says what a reply store is; `sqlite` is the user's own, `memory` one without a file, `keys` the hash of a
request, `rows` a reply as a row, `prune` what removes old ones. `conversations` keeps turns, as a branching `tree`.
`database` and `writer` own the file, `write_behind` what waits for it.

Nothing here knows providers or IPython.
"""
