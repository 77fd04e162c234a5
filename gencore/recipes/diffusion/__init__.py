"""Recipes of models that undo the steps of a diffusion."""
