"""What onnxruntime's profiler wrote, read back."""

import json
from collections import defaultdict
from pathlib import Path

from foldbench.bench.errors import BackendError
from foldbench.bench.samples.timing import OperatorTime

_KERNEL = "_kernel_time"


def read_profile(path: Path, skip: int) -> tuple[OperatorTime, ...]:
    """Return each node's mean time, leaving out its first `skip` runs.

    `path` is the JSON file of ``InferenceSession.end_profiling()``: trace events with durations in
    microseconds, one of category ``Node`` for each run of a kernel. Raises BackendError when it
    holds no run beyond the skipped ones.
    """
    durations: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in json.loads(path.read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            arguments = event["args"]
            key = (
                arguments["op_name"],
                event["name"].removesuffix(_KERNEL),
                arguments.get("provider", "").removesuffix("ExecutionProvider"),
            )
            durations[key].append(event["dur"] * 1e-6)
    runs = max((len(found) for found in durations.values()), default=0) - skip
    if runs < 1:
        raise BackendError("the profiler of onnxruntime recorded no kernel")
    return tuple(
        OperatorTime(
            operator=operator,
            node=node,
            placed_on=provider,
            time_s=sum(found[skip:]) / runs,
            calls=len(found[skip:]) / runs,
        )
        for (operator, node, provider), found in durations.items()
    )
