"""Predicted frames of films: where things move, and how well they are predicted there."""
