"""What a bundle does where it is run: with the standard library, numpy and a runtime alone."""
