"""From image files to arrays: sources, layout, decoding, cache, splits, preprocessing."""
