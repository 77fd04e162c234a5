"""Recipes of models that set pictures of faces in motion."""
