"""What runs without foldbench, on numpy and a runtime alone: a bundle, a bisection's script."""
