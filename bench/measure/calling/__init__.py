"""How a network is really called: after pauses, from a cold process, by several at once."""
