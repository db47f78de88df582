"""What stored times and answers mean: statistics, speed-ups, differences, advice."""
