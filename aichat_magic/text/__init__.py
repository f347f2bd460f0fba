"""Pure text: no network, no files, no models, no state.

`markdown` (Markdown to safe HTML), `html_parts` (the elements of our HTML), `reply_view` (a reply as HTML and text),
`widgets` (notes, transcripts and tables), `tables` (Markdown tables to DataFrames), `code_blocks` (fenced code), `wrap`
(line breaking), `svg` (charts), `quoting` (text that cannot break out of its fence), `characters` (control characters,
blank text), `words` (nearest names, shortened text), `numbers` (amounts of money), `terminal` (plain output).

Not here: values such as `Reply`, which live in `core`.
"""
