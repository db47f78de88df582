"""One verb, one file: train, tune, export, quantize, compare, profile, report, track."""
