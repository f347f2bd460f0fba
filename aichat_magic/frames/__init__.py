"""Columns of prompts become columns of replies: the accessors of pandas, and column templates.

`pandas` has the accessors, `template` fills columns into a prompt, `extract` makes typed columns, `preview` shows a
few rows, `pandas_hook` registers the accessors without importing pandas.
"""
