"""Images: the ones that packages bring, and the user's own."""
