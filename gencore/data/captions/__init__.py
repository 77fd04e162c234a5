"""Images with captions, and the words of captions as numbers."""
