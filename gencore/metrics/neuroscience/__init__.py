"""Response maps of neurons, measured as neuroscience does."""
