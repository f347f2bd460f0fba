"""Python types and JSON Schema: what an answer must look like, and the check of it.

`schema` is what the others use: it makes a schema of a type or a dict, and reads an answer by it. `python_types` and
`records` read by pydantic, `json_schema` checks by jsonschema, `wire` is what is sent, `columns` what becomes of it
in a frame, `problems` what is wrong with an answer, in words.
"""
