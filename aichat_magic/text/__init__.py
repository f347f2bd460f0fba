"""Pure text: no network, no files, no models, no state.

`markdown` (Markdown to safe HTML) with `markdown_extras` (what models write beyond CommonMark), `latex` (Markdown to
LaTeX) with `latex_math` (formulas that can be typeset), `formulas` (where a text has formulas), `html_parts` (the
elements of our HTML), `reply_view` (a reply as HTML, LaTeX and text), `widgets` (notes, transcripts and tables),
`tables` (Markdown tables to DataFrames), `code_blocks` (fenced code), `wrap` (line breaking), `svg` (charts), `quoting`
(text that cannot break out of its fence), `characters` (control characters, blank text), `words` (nearest names,
shortened text), `numbers` (amounts of money, times, sizes), `terminal` (plain output), `front_end` (which front end
shows it).

Not here: values such as `Reply`, which live in `core`.
"""
