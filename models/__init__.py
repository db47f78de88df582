"""Networks: one file each, found by name, and how they are trained.

A plug-in has a function ``build(*, classes, input_shape, **args) -> torch.nn.Module`` that returns
a network with fresh weights: ``input_shape`` is (C, H, W), its output (N, classes) logits. Its
``VERSION`` is a whole number that is raised whenever the same arguments give other initial weights
or another function; trainings of another version are not found again.
"""
