"""Recipes of normalizing flows."""
