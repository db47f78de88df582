"""int8: calibration, which layers stay in float32, and the file."""
