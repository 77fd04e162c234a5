"""Recipes of models made of two kinds."""
