"""Recipes of adversarial networks."""
