"""Many prompts become many replies.

`api` has the functions for users. `runner` sends the requests of a run, `queue` says which is next and what becomes
of a failure, `limiter` and `control` how many go out at once and how fast, `budget` what they may cost, `outages`
when all wait for the network. `options` is what a run may do, `ledger` and `results` hold what came of each row,
`saver` stores it, `run` is what users get; `progress` and `progress_bar` tell of it.

Frames and columns live in `frames`.
"""
