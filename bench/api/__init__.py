"""The Python interface: `foldbench.compare`, `export`, `fold` and `optimize` are functions of it.

Everything but `fold` is done in processes of its own, so that the program that calls it stays as it
was: no flag of torch, thread, hook, random number, environment variable or warning changes.
"""
