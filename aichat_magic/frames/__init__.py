"""Tables of every library: the accessors, the functions over frames, and column templates.

- `accessors`: `Series.aichat`, `DataFrame.aichat` of pandas and polars; `import_hook`, `registration`: how they get
  there without importing anything; `api`: the public functions over tables of any library.
- `table`: what a run needs of a table; `pandas_table`, `narwhals_table`: how libraries give it; `tables`: which is
  which; `recognition`: the same for Tab, without loading anything.
- `template`: column templates, which make a prompt from the columns of a row; `cells`: columns of prompts, and
  conversations in all forms.
- `embed`: vectors of columns and lists, similarity, nearest rows, near duplicates; `embedding`: runs over embeddings.
- `extract`: typed columns; `preview`: the view of the first rows; `remarks`: warnings at the line of the user.

Not here: sending rows (`batching`), schemas (`schema`), frames as text in a prompt (`values`).
"""
