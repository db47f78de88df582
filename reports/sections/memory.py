"""The section about memory: what a process holds at each step, and what a call adds."""

from collections.abc import Sequence

from foldbench.bench import units
from foldbench.bench.analysis.memory import Slope, growth_of
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import MemoryUse
from foldbench.reports.text.document import Column, ReportSection, left, right, tabulated
from foldbench.reports.text.labels import Labelled, label_in
from foldbench.reports.text.names import spoken

_CAPTION = (
    "Resident set of a process in which nothing is timed; PSS counts shared pages by their share. "
    "Peak: while batches of that size are computed, with their input. Growth: anonymous memory per "
    "call; a leak is one whose 95 % interval lies above 0 over 2,000 calls or more."
)
_ON_GPU = (
    " GPU: its memory that the process holds (NVML); tensors: the most that torch's hold there."
)


def build_memory(column: Column, labelled: Labelled) -> ReportSection:
    """Return the section; it is empty where memory was not asked for."""
    found = [
        (label_in(labelled, label), m.contender, m.as_called.memory)
        for label, run in labelled
        for m in contenders(run)
        if m.as_called and m.as_called.memory
    ]
    sizes = sorted({peak.batch_size for _, _, use in found for peak in use.peaks})
    gpu = any(point.gpu_bytes for _, _, use in found for point in use.points)
    allocator = any(peak.allocator_bytes for _, _, use in found for peak in use.peaks)
    columns = (
        column,
        left("contender"),
        right("import"),
        right("opening"),
        right("warm-up"),
        right("PSS"),
        *(right(f"peak at batch {units.count(size)}") for size in sizes),
        *([right("GPU")] if gpu else []),
        *(right(f"tensors at batch {units.count(size)}") for size in sizes if allocator),
        left("growth"),
    )
    rows = [
        [label, name, *_cells(use, sizes), *_on_gpu(use, gpu, sizes if allocator else []), told]
        for label, name, use in found
        if (told := use.reason or _growth(growth_of(use)))
    ]
    return ReportSection(
        "Memory",
        table=tabulated(columns, rows),
        caption=f"{_CAPTION}{_ON_GPU if gpu or allocator else ''}" if rows else "",
        key="memory",
        lead=_lead(found),
    )


def _lead(found: Sequence[tuple[str, str, MemoryUse]]) -> str:
    """Return who leaks; where nobody does, over how many calls that was looked for."""
    grown = [(f"{label} {spoken(name)}".strip(), growth_of(use)) for label, name, use in found]
    slopes = [(name, slope) for name, slope in grown if slope]
    leaking = [f"{name} {_growth(slope)}" for name, slope in slopes if slope.verdict == "leaks"]
    if leaking:
        return f"{'; '.join(leaking)}."
    if not slopes:
        return ""
    calls = units.count(min(slope.calls for _, slope in slopes))
    if all(slope.verdict for _, slope in slopes):
        return f"No leak found in {calls} calls of each contender."
    return f"{calls} calls are too few to tell whether calls leak: raise --budget."


def _cells(use: MemoryUse, sizes: list[int]) -> list[str]:
    points = {point.after: point for point in use.points}
    peaks = {peak.batch_size: peak for peak in use.peaks}
    warm = points.get("warm-up")
    steps = (points.get("import"), points.get("opening"), warm)
    return [
        *(units.size(point.rss_bytes) if point else "" for point in steps),
        units.size(warm.pss_bytes) if warm else "",
        *(
            (units.size(peaks[size].peak_bytes) or peaks[size].reason or "")
            if size in peaks
            else ""
            for size in sizes
        ),
    ]


def _on_gpu(use: MemoryUse, gpu: bool, sizes: Sequence[int]) -> list[str]:
    """Return what the process holds of the GPU after warm-up, and torch's tensors at each size."""
    warm = next((point.gpu_bytes for point in use.points if point.after == "warm-up"), None)
    peaks = {peak.batch_size: peak.allocator_bytes for peak in use.peaks}
    return [units.size(warm)] * gpu + [units.size(peaks.get(size)) for size in sizes]


def _growth(slope: Slope | None) -> str:
    if slope is None:
        return "not told by this system, or too few calls"
    low, high = _signed(slope.low), _signed(slope.high)
    told = f"{_signed(slope.point)} a call ({low} to {high})"
    if slope.verdict is None:
        return f"{told}; {units.count(slope.calls)} calls are too few for a verdict"
    return f"leaks {told}" if slope.verdict == "leaks" else slope.verdict


def _signed(value_bytes: float) -> str:
    return f"{'-' if value_bytes < 0 else ''}{units.size(round(abs(value_bytes)))}"
