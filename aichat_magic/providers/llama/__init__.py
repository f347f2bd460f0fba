"""The embedded engine: llama.cpp in the process, and its model files."""
