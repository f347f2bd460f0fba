"""The embedded model: llama.cpp inside this process.

`engine` runs the servers, one for each model file; `weights` finds, fetches and verifies the files. Neither knows the
wire: `providers.local` talks to the engine.
"""
