"""What this machine is, and what else it does while something is timed."""
