"""Contents of a prompt beside the user's own words: values, files, the last exception, prompt templates.

`placeholders` fills ``{name}``, `include` reads `--include` and `--attach`, `last_error` describes the last exception,
`templates` reads prompt templates (`templates/` holds the built-in ones), `earlier_turns` says which images and data of
earlier turns go along.
"""
