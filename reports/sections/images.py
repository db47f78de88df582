"""What the test images are and what was done to them, in words."""

from collections.abc import Iterator

from foldbench.bench import units
from foldbench.bench.records import Preprocessing, Run
from foldbench.bench.records.published import PublishedRun

_PROTOCOL = {"homework": ", flipped and cropped at random as the homework's code did", "clean": ""}


def describe_input(run: Run) -> str:
    """Return how an image became the network's input: size, cut and normalisation."""
    preprocessing = run.checkpoint.preprocessing
    if run.data.preprocessed:
        return "given as float32 arrays, already preprocessed"
    return f"{_resized(preprocessing)}, {_normalised(preprocessing)}" + _PROTOCOL.get(
        run.evaluation_protocol, ""
    )


def _resized(preprocessing: Preprocessing) -> str:
    channels, tall, wide = preprocessing.input_shape
    size, resize = f"{tall}x{wide}", preprocessing.resize
    grey = "grey, " if channels == 1 else ""
    if resize.stretch:
        how = f"stretched to {size}"
    elif resize.shorter_side is None:
        how = f"scaled to cover {size} and cut at the centre"
    else:
        how = f"shorter side scaled to {resize.shorter_side}, cut to {size} at the centre"
    return f"{grey}{how} ({resize.interpolation})"


def _normalised(preprocessing: Preprocessing) -> str:
    return f"mean {_numbers(preprocessing.mean)}, std {_numbers(preprocessing.std)}"


def _numbers(values: tuple[float, ...]) -> str:
    kept = values[:1] if len(set(values)) == 1 else values
    return " ".join(units.plain(value) for value in kept)


def describe_classes(run: Run) -> str:
    """Return how many images each class has, and what always answering the most frequent gives."""
    counts = run.data.test_class_counts
    if not counts or not sum(counts):
        return ""
    least, most = min(counts), max(counts)
    each = units.count(least) if least == most else f"{units.count(least)} to {units.count(most)}"
    name = run.data.classes[counts.index(most)]
    return (
        f"{units.count(len(counts))} classes of {each} test images; always answering {name} would "
        f"be right on {units.percent(most / sum(counts))} %"
    )


def caption_lines(run: Run) -> Iterator[str]:
    """Yield the sentences that stand beside an accuracy."""
    if isinstance(run, PublishedRun):
        return
    yield f"Images: {describe_input(run)}."
    if described := describe_classes(run):
        yield f"{described[0].upper()}{described[1:]}."
    if run.data.class_mapping:
        yield f"Classes: {run.data.class_mapping}."
