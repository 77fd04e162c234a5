"""Recipes of models of words."""
