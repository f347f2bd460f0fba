"""Providers: each turns a `ChatRequest` into a request of one API, and the response into a `Reply` or `Chunk`s.

- `base`: what a provider is; `dialect`: the part that all JSON APIs over HTTP share; `registry`: finds one by name.
- `openai`, with `openai_choices` and `openai_usage` (what its many servers do differently in responses) and `presets`
  (their addresses and variables); `anthropic`; `echo`; `local`, for which `llama` runs the embedded model.
- `wire_options`: reasoning, tiers and other options in each provider's words.
- `profile`: what a model takes; `learning`: what a refusal teaches about it; `fitting`: one request under a profile.
- `thinking`: thinking told from text; `embeddings`: what servers differ in where they make vectors, and `wordllama`,
  the embedded model for them; `entra`: tokens of Microsoft Entra ID.
- `aichat`: the historical provider with its cookies.

A provider knows nothing of the notebook, of frames, history or retries.
"""
