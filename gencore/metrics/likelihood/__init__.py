"""Likelihoods of images and of the plane, and what they have to beat."""
