"""Recipes of representations that are learned without labels."""
