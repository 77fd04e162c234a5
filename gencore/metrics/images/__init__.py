"""Predicted images against the true ones, pixel by pixel."""
