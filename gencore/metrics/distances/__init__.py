"""Distances between sets of feature vectors, and how sure they are."""
