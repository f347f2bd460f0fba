"""Data frames: the accessors of pandas, and column templates.

- `pandas`: the accessors `Series.aichat`, `DataFrame.aichat`; `pandas_hook`: registers them without importing pandas.
- `template`: column templates, which make a prompt from the columns of a row.
- `embed`: vectors of columns and lists, similarity, nearest rows, near duplicates.
- `extract`: typed columns; `preview`: the view of the first rows.

Not here: sending rows (`batching`), schemas (`schema`), frames as text in a prompt (`values`).
"""
