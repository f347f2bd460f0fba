"""The embedded model: llama.cpp inside this process.

`engine` runs the servers, one for each model file; `weights` finds, fetches and verifies the files of the built-in
model, and `hub` those of the Hugging Face Hub, whose names `hub_names` reads, under a `file_lock` between processes;
`memory` tells whether a file fits. None of them knows the wire: `providers.local` talks to the engine.
"""
