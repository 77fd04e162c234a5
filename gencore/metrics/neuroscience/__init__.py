"""Measures of neuroscience: how cells respond to images and places."""
