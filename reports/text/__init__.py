"""Documents, units, labels and escaping: what every text is made of."""
