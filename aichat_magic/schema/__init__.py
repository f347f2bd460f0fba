"""Python types and JSON Schema: what an answer must look like, and its check.

`schema` is what other packages use: it makes a schema of a type or a dict, and reads answers with it. `python_types`
reads answers by pydantic, for which `records` converts types; `json_schema` checks them by jsonschema; `tree` resolves
references; `wire` writes a schema as providers take it, and `modes` for those that do not take every one; `columns` has
the dtypes of its columns; `problems` says what is wrong with an answer. Nothing here sends requests or knows pandas.
"""
