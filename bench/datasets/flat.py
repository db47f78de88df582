"""Any images side by side in a folder or a tar archive, named after their class.

``data.label_pattern`` is a regular expression for the start of a file's name, with one group around
the class: ``(.+)_\\d+`` reads ``great_pyrenees`` in ``great_pyrenees_12.jpg``. The images are
sorted by name and split as ``data.split`` says: random, or stratified (the same share of each
class; also by default), with the same outcome for the same ``data.split_seed``.
"""

from foldbench.bench.errors import DataError
from foldbench.bench.images.flat import FORM, load_drawn
from foldbench.bench.images.image_set import DataOptions, ImageSet

TAKES_LABEL_RULE = True


def load(options: DataOptions) -> ImageSet:
    """Return the images at `options.path`, from the cache when they were decoded before.

    Raises DataError for a path that is missing or holds no images, damaged images, names without a
    class, a class that only one of the splits has; ConfigError for a bad rule.
    """
    if options.path is None:
        raise DataError(f"flat needs a place to read from; {FORM}: give it with --data PATH")
    if options.label_pattern is None:
        raise DataError(
            f"{options.path}: which part of a file's name is its class is not said: set "
            r"data.label_pattern to a regular expression with one group, such as '(.+)_\d+'"
        )
    return load_drawn(options, options.path, options.label_pattern, "flat")
