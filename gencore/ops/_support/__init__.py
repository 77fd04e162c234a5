"""What the operators share: checks, back ends, derivatives, symbolic numbers."""
