"""Time an open network, in its own process: the one loop, tuning, LoadGen."""
