"""The IPython front end: `%%aichat` cells and `%aichat` commands.

Everything that depends on a shell or a notebook is here. Asking a model is in `chat`, a run over rows in `batching` and
`frames`. Open `extension` for what `%load_ext` registers, `session` for what a cell does, `arguments` for its flags,
`commands` for what a line does, `template_commands` for `fix`, `explain`, `doc`, `review` and `run`, `context` for what
goes into a prompt, `history` and `notebook_identity` for which conversation a cell belongs to, `views` for how a reply
is shown, `reply_format` for `--format` and `--schema`, `export` for conversations as files, and `help`, `completion`,
`usage` and `doctor` for the rest of what a user sees.
"""
