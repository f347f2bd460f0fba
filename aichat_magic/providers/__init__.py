"""Providers: each turns a `ChatRequest` into a request of one API, and the response into a `Reply` or `Chunk`s.

`base` defines a provider, `dialect` the part that all JSON APIs over HTTP share; `openai`, `anthropic`, `echo` and
`local` are one provider each; `registry` finds a provider by name. `embeddings` has what servers differ in where they
make vectors. `llama` runs the embedded model, `wordllama` the one for vectors; `aichat` is the historical provider with
its cookies. A provider knows nothing of the notebook, of frames, history or retries.
"""
