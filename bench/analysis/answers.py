"""Whether answers are those of the network: how far rounding may take them from it."""

from foldbench.bench import units

_LARGEST_DIFFERENCE = {"float32": 1e-3, "tf32": 1e-2, "float16": 1e-2}
"""That rounding explains, relative to the largest logit."""
_SAME_CLASS = 0.95
"""Share of images that coarser precisions have to give the same class."""


def exceeded_limit(precision: str, max_rel_difference: float) -> float | None:
    """Return what rounding in `precision` explains where a difference exceeds it, else None.

    Both are relative to the largest logit.
    """
    limit = _LARGEST_DIFFERENCE.get(precision)
    return limit if limit is not None and not max_rel_difference <= limit else None


def fault_of_answers(
    precision: str, top1_equal: int, images: int, max_rel_difference: float
) -> str | None:
    """Return how answers to `images` differ from those in float64, None where they are right."""
    if precision not in _LARGEST_DIFFERENCE and top1_equal < _SAME_CLASS * images:
        return f"the same class on {top1_equal} of {images} images alone"
    limit = exceeded_limit(precision, max_rel_difference)
    if limit is not None:
        share = f"{units.short_error(max_rel_difference)} of the largest logit"
        return f"its answers differ by {share} from float64 (limit {units.short_error(limit)})"
    return None
