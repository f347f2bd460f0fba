"""Python values as prompt text and pictures.

`describe` (any value), `dataframes` (tables), `images` (pictures), `truncate` (what of a long value is shown).

What is included in a prompt, and how, is decided in `magic.context`.
"""
