"""Recipes of grid cells."""
