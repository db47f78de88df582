"""Find places in a graph and rewrite them: what passes share."""
