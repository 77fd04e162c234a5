"""Densities of the plane that are known exactly."""
