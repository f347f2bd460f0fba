"""A model's text made safe to show: Markdown to HTML, and plain text for a terminal."""
