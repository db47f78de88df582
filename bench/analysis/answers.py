"""Whether answers from another machine are right: how far they may be from float64."""

from foldbench.bench import units

_LARGEST_DIFFERENCE = {"float32": 1e-3, "tf32": 1e-2, "float16": 1e-2}
"""Of an answer from the one in float64, relative to the largest logit."""
_SAME_CLASS = 0.95
"""Share of images that coarser precisions have to give the same class."""


def fault_of_answers(
    precision: str, top1_equal: int, images: int, max_rel_difference: float
) -> str | None:
    """Return how the answers of a network to `images` are wrong, None where they are right."""
    limit = _LARGEST_DIFFERENCE.get(precision)
    if limit is None and top1_equal < _SAME_CLASS * images:
        return f"the same class on {top1_equal} of {images} images alone"
    if limit is not None and not max_rel_difference <= limit:
        share = f"{units.short_error(max_rel_difference)} of the largest logit"
        return f"its answers differ by {share} from float64 (limit {units.short_error(limit)})"
    return None
