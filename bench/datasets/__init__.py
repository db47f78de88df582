"""Data sets: one file each, found by name.

A plug-in has a function ``load(options: DataOptions) -> ImageSet``. It reads the images, or maps
them from the cache, and never downloads unless `options.download` says so.
"""
