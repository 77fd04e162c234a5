"""How cells respond to images and to places, measured as neuroscience does."""
