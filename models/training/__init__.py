"""Train a network: the loop, its optimizers, augmentation, averaging, resuming."""
