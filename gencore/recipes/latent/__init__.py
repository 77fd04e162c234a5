"""Recipes of models with latent variables."""
