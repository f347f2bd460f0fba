"""What a cell puts into its prompt: placeholders, included values, the last error, prompt templates."""
