"""Pure text: no network, no files, no models, no state.

`markdown` (Markdown to safe HTML), `reply_view` (how a reply shows itself), `widgets` (notes, transcripts and tables
to look at), `tables` (Markdown tables as frames), `code_blocks` (fenced code), `wrap` (line breaking), `svg`
(charts), `quoting` (text that cannot break out of its fence), `characters` (what no text may hold), `words` (nearest
names, shortened text), `terminal` (plain output).

Values such as `Reply` live in `core`.
"""
