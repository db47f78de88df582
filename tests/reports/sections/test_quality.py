"""The quality line: its level follows from what happened, the worst cause first."""

import pytest

import builders as B
from foldbench.reports.sections.notes import take_notes
from foldbench.reports.sections.quality import quality_of
from foldbench.reports.text.labels import label_runs

REFERENCE = B.make_row("torch", "unfolded", timings=(B.make_timing(1, B.steady(0.002, 14)),))
MILLISECOND = B.steady(0.001, 14)
JUMPY = [0.001, 0.00104, 0.00102, 0.00101, 0.00103, 0.001, 0.00104] * 2
BUSY = {"dirty": (1, 4, 7, 8)}
SHORT = {"stopped": "budget"}


def quality(*rows, **changes):
    return quality_of(label_runs([B.make_run(measurements=(REFERENCE, *rows), **changes)])[1])


def timed(block_s=MILLISECOND, **changes):
    return B.make_row("ort", "folded", timings=(B.make_timing(1, block_s, **changes),))


@pytest.mark.parametrize(
    ("row", "changes", "level"),
    [
        (timed(), {}, "reliable"),
        (timed(JUMPY, **SHORT), {"rounds": 20, "budget_s": 60}, "short"),
        (timed([0.001] * 14, **BUSY), {}, "noisy"),
        (timed(JUMPY, **BUSY, **SHORT), {"rounds": 20, "budget_s": 60}, "noisy"),
        (timed([0.001] * 4), {"rounds": 4}, "inconclusive"),
    ],
    ids=["undisturbed", "budget ended", "busy", "busy and budget ended", "too few rounds"],
)
def test_a_measurement_that_ended_early_is_short_and_one_that_was_disturbed_noisy(
    row, changes, level
):
    assert quality(row, **changes).level == level


def test_a_network_that_looks_at_other_images_of_the_batch_has_a_note():
    run = B.make_run(measurements=(REFERENCE,))
    checkpoint = run.checkpoint.model_copy(update={"batch_dependent": True})
    dependent = run.model_copy(update={"checkpoint": checkpoint})
    before, after = (take_notes([("a", one)]) for one in (run, dependent))
    (added,) = set(after.texts) - set(before.texts)
    marks = after.of("a", "accuracy", "torch/unfolded/cpu")
    assert str(after.texts.index(added) + 1) in marks
