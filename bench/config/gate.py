"""The section gate: how much worse the second of two networks may be, and how that is tested."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from foldbench.bench.config.base import ConfigSection, Positive, refuse_repeats

Allowed = Annotated[float, Field(ge=0.0, le=10.0)]
Error = Annotated[float, Field(ge=0.001, le=0.2)]


class GateSection(ConfigSection):
    """What `bench gate` allows, and the error rates of its test."""

    max_slower: Annotated[float, Field(gt=0.0, le=10.0)] = 0.02
    """Allowed slow-down, as a share: 0.02 lets a call take 2 % longer. A slow-down is found when it
    exceeds this by what the job resolves, which is in its report."""
    max_drop_points: Annotated[float, Field(ge=0.0, le=100.0)] = 0.3
    """Allowed loss of accuracy, percentage points."""
    max_changed: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Allowed share of images that get another class. By default 0.01 where the images have no
    labels, and not judged where accuracy is."""
    max_larger: Allowed = 0.05
    """Allowed growth of the file, as a share."""
    max_memory: Allowed = 0.1
    """Allowed growth of the process's peak memory, as a share."""
    alpha: Error = 0.05
    """Most often that something is called worse which is worse by no more than what is allowed;
    over all batch sizes together."""
    beta: Error = 0.05
    """Most often that something is called not worse which is worse by more than that."""
    on_unclear: Literal["pass", "fail"] = "pass"
    """What becomes of a job that cannot tell: exit code 0 or 4."""
    backend: Annotated[str, Field(min_length=1)] = "ort"
    """What runs both networks, with its options: ort, torch, openvino."""
    variant: str | None = None
    """Which file of a run: folded, unfolded, int8. By default the folded one, or the only one."""
    batch_sizes: Annotated[
        tuple[Positive, ...], Field(min_length=1), AfterValidator(refuse_repeats)
    ] = (1,)
    budget_s: Annotated[float, Field(gt=0, le=86400)] = 150.0
    """Most seconds that starting and timing processes may take. A clear case ends before."""
    processes: Annotated[int, Field(ge=3, le=200)] = 40
    """Most processes of each network, one after the other; the budget may carry fewer."""
    rounds: Positive = 8
    """Clean rounds in each process."""
    block_s: Annotated[float, Field(ge=0.0, le=60)] = 0.05
    """Least duration of a timed block, seconds."""
    settle_s: Annotated[float, Field(ge=0.0, le=60)] = 0.02
    """Untimed calls before each block, seconds."""
    warm_up_s: Annotated[float, Field(ge=0.0, le=60)] = 0.2
    """Least duration of the untimed calls before the first round of a process, seconds."""
