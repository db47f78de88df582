"""What `bench optimize` says: what passes did to a file, and that its answers stayed."""

from collections.abc import Sequence
from pathlib import Path

from foldbench.bench import units
from foldbench.bench.records import Parity, PassReport
from foldbench.reports.text.parity import PARITY_REFERENCES


def render_optimized(
    path: Path,
    given: Path,
    nodes: tuple[int, int],
    sizes_bytes: tuple[int, int],
    passes: Sequence[PassReport],
    parity: Sequence[tuple[str, Parity]],
    random_images: bool,
) -> str:
    """Return a few lines; `nodes` and `sizes_bytes` are those of the given file, then the new."""
    before, after = nodes
    lines = [
        str(path),
        f"  {units.count(before)} nodes became {units.count(after)}, "
        f"{units.size(sizes_bytes[0])} became {units.size(sizes_bytes[1])}",
        *(f"  pass {done.name}: {done.detail}" for done in passes),
    ]
    on = "random inputs" if random_images else "the images given"
    for name, found in parity:
        against = PARITY_REFERENCES[found.reference]
        worst = max((case.error or 0.0 for case in found.cases), default=0.0)
        lines.append(
            f"  output {name}: the same as {given.name} in {against}, on {on} (largest difference "
            f"{units.error(worst)} of the largest value)"
        )
    lines.append(f"  next: bench compare {given} {path}")
    return "\n".join(lines) + "\n"
