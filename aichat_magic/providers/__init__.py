"""Providers: one module for each wire dialect. `base` says what a provider is, `registry` finds one by name.

`llama` is the embedded engine, `aichat` the historical provider with its cookies. A provider knows no screen, no
frame, no history and no retry.
"""
