"""Train a linear layer on the features of a frozen network."""
