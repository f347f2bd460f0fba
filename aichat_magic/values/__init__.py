"""Python values as prompt text and pictures.

`describe` (any value), `dataframes` (tables and arrays), `images` (pictures), `truncate` (parts of large values),
`types` (type checks by class name), `vectors` (similarity, nearest rows, near duplicates).

Not here: what is included in a prompt, and when (`magic.context`).
"""
