"""The IPython front end: `%%aichat` cells and `%aichat` commands.

Everything that depends on a shell or a notebook is here. Asking a model is in `chat`, a run over rows in `batching` and
`frames`.

- `extension`: what `%load_ext` registers; `session`: what a cell does; `asking`: one question to one model.
- `arguments`, `flags` and `line_words`: what stands on the line of a magic; `line_calls`: `%aichat` as a value in code.
- `commands`: what a line does; `template_commands`: `fix`, `explain`, `doc`, `review` and `run`; `key_command`:
  `%aichat key`; `help`, `completion`, `usage` and `doctor`.
- `context`: what goes into a prompt; `reply_format`: `--format` and `--schema`; `export`: conversations as files.
- `history` and `notebook_identity`: which conversation a cell belongs to.
- `views`: how a reply is shown while it grows, `side_by_side` for several models; `live`: how an output changes in each
  front end; `shown_replies`: a reply that was shown is not shown again as the cell's value.
"""
