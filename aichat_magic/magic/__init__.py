"""IPython: `%%aichat` cells and `%aichat` lines.

`extension` is what `%load_ext` loads, `session` what a cell does, `commands` what a line does, `context` what goes
into a prompt, `history` and `notebook_identity` which conversation a cell belongs to, `views` how a reply is shown,
`help` and `doctor` what they say.
"""
