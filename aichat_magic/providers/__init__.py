"""Providers: each turns a `ChatRequest` into a request of one API, and the response into a `Reply` or `Chunk`s.

`base` defines a provider, `dialect` the part that all JSON APIs over HTTP share; `openai`, `anthropic`, `echo` and
`local` are one provider each; `registry` finds a provider by name. `llama` runs the embedded model, `aichat` is the
historical provider with its cookies. A provider knows nothing of the notebook, of frames, history or retries.
"""
