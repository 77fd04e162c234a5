"""Recipes of models of films."""
