"""Pictures of what calls cost as they are really made: curves, and bars in parts."""
