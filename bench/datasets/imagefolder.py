"""Any images as train/<class>/* and test/<class>/*, in a folder or a .tar[.gz|.bz2|.xz] file.

The classes are the sorted names of the class folders; subfolders of a class count too. Where there
is no test/ folder, val/ is the test split. Images of another size are scaled with anti-aliasing to
cover the square and are cut at the centre; grey, palette and CMYK images become RGB, EXIF rotation
is applied, and what is transparent becomes white.

Archives are read in one pass and never unpacked. The images are decoded once and kept in the cache,
so that later loads only map them.
"""

from foldbench.bench.errors import DataError
from foldbench.bench.images.folders import load_folders
from foldbench.bench.images.image_set import DataOptions, ImageSet
from foldbench.bench.images.layout import FORM


def load(options: DataOptions) -> ImageSet:
    """Return the images at `options.path`, from the cache when they were decoded before.

    Raises DataError for no path, and what `load_folders` raises.
    """
    if options.path is None:
        raise DataError(f"imagefolder needs a place to read from; {FORM}: give it with --data PATH")
    return load_folders(options, options.path)
