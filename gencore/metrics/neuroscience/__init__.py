"""Measures of neuroscience: how cells respond to images and places."""

"""Response maps of neurons, measured as neuroscience does."""
