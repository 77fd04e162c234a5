"""A square in which an animal runs: its places, and paths through it."""
