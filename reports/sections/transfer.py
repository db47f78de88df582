"""How a linear classifier on frozen features was fitted, as text."""

from foldbench.bench import units
from foldbench.bench.records import Run, Transfer


def describe_transfer(run: Run) -> str:
    """Return features, classifier, regularisation and balanced accuracy; blank without transfer."""
    record = run.checkpoint.transfer
    if record is None:
        return ""
    parts = [
        f"{record.classifier} classifier on {units.count(record.feature_count)} features of "
        f"{run.checkpoint.network} ({record.weights}, sha256 {record.weights_sha256[:12]})",
        _regularisation(record),
        f"right on the features of {units.percent(record.test_correct / record.test_count)} % of "
        f"the test images, balanced {units.percent(record.test_balanced_accuracy)} %",
    ]
    return "; ".join(part for part in parts if part)


def _regularisation(record: Transfer) -> str:
    """Return the path of regularisation and what was chosen; blank for a classifier without one."""
    if not record.candidates:
        return ""
    path = ", ".join(
        f"C {units.plain(c.inverse_regularisation)}: {units.percent(c.validation_accuracy)} %"
        for c in record.candidates
    )
    return (
        f"regularisation, by accuracy on {units.count(record.validation_count)} held-out training "
        f"images: {path}"
    )
