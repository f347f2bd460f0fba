"""Batch processing: many prompts become many replies.

- `api`: the public functions `batch`, `batch_async`, `batch_iter_async`; `keywords`: their keywords and their docs.
- `options`: the options of a run with their ranges, and the plan made from them; `estimate`: what a run would send.
- `runner`: reads rows and sends requests with a set of workers; `queue`: which request is next, and retries;
  `outages`: pauses while the network is away; `ledger` and `results`: rows, and their replies and errors;
  `saver`: writes replies to the store in groups.
- `leases`: the limiter's protocol; `limiter`: the limits of one run, with `budget` (cost and tokens); `server_limit`:
  what runs have learned of a server, with the control loops in `control` (how many), `pace` (how fast) and
  `standstill`; `process_limits`: where the runs of a process share it.
- `refusals`: which error meets one row, which meets all.
- `embedding`: runs that make vectors, with a group of texts in each request.
- `run`: the result object `BatchRun`; `columns`: its columns before they are those of a library; `progress`: events of
  a run; `progress_bar`: draws them.

Not here: data frames and column templates (`frames`), a single request (`chat`), rate limits in headers (`http`).
"""
