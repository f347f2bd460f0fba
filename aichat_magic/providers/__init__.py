"""Providers: one module for each wire dialect. `base` says what a provider is."""
