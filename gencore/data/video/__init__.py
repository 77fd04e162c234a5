"""Films as clips of frames, and films that are made: moving shapes with their true motion."""
