"""Recipes of models of the visual cortex."""
