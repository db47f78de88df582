"""What a reader of a record must be told: one rule a kind of trouble."""
