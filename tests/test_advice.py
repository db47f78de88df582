"""Each warning appears when its cause does, with the numbers, and not otherwise."""

import importlib.util
from pathlib import Path

import pytest

from bench.advice import RULES, advise
from bench.records import Parity, Skip
from reports.notes import sentence

_SPEC = importlib.util.spec_from_file_location(
    "report_builders", Path(__file__).parent / "reports" / "conftest.py"
)
B = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(B)

UNCOMPARED = B.make_accuracy().model_copy(update={"agreement": None})
REFERENCE = B.make_row("torch", "unfolded")


def run_with(*rows, **changes):
    return B.make_run(measurements=(REFERENCE, *rows), **changes)


def folded_artifact(**changes):
    return {"artifacts": (B.make_artifact("folded", **changes),)}


def timed(*block_s, calls=20):
    return B.make_row("ort", "folded", timings=(B.make_timing(1, block_s, calls),))


CAUSES = {
    "no_reference": (
        B.make_run(measurements=(B.make_row("ort", "folded", accuracy=UNCOMPARED),)),
        "torch/unfolded/cpu, which all are held against, gave no outputs",
    ),
    "at_chance": (
        run_with(B.make_row("ort", "folded", accuracy=B.make_accuracy(1003))),
        "10.0 % right cannot be told from guessing (10.0 %)",
    ),
    "disagreement": (
        run_with(B.make_row("ort", "folded", accuracy=B.make_accuracy(top1_equal=9988))),
        "another class than torch/unfolded/cpu on 12 of 10,000 images",
    ),
    "misplaced": (
        run_with(B.make_row("ort", "folded", requested_device="cuda", actual_device="cpu")),
        "ort/folded/cuda: asked for cuda, ran on cpu",
    ),
    "unequal_threads": (run_with(B.make_row("ort", "folded", threads=8)), "2 and 8 threads"),
    "unequal_precision": (
        run_with(B.make_row("ort", "folded", precision="bfloat16")),
        "bfloat16 and float32",
    ),
    "noisy": (
        run_with(timed(*[0.001, 0.00112] * 6)),
        "ort/folded/cpu at batch 1: noisy. The middle half of the block medians spans 11.3 %",
    ),
    "drifting": (
        run_with(timed(*[0.001] * 4, 0.00102, 0.00102, *[0.00104] * 4)),
        "was 4.0 % slower than the first (limit 3.0 %)",
    ),
    "few_calls": (
        run_with(timed(*[0.001] * 10, calls=6)),
        "no p95, which needs 200 timed calls and had 60. Set compare.calls=20",
    ),
    "few_rounds": (run_with(rounds=4), "it takes 5 rounds, and there were 4"),
    "parity_failed": (
        run_with(**folded_artifact(parity=Parity(passed=False, reason="off by 3", cases=()))),
        "folded file: the .onnx file does not compute what the checkpoint computes: off by 3",
    ),
    "fold_without_effect": (
        run_with(
            **folded_artifact(
                fold=B.make_fold("folded", batchnorms_before=0, folded=(), agreement=None)
            )
        ),
        "has no BatchNorm, so folding changed nothing",
    ),
    "folded_by_exporter": (
        run_with(**folded_artifact(folded_by=("exporter",))),
        "the exporter (torch.onnx.export(dynamo=True)) folded BatchNorm by itself",
    ),
    "batchnorm_left": (
        run_with(
            **folded_artifact(
                batchnorm_nodes=1,
                fold=B.make_fold(
                    "folded",
                    batchnorms_after=1,
                    skipped=(Skip(module="bn3", reason="two layers read conv3"),),
                ),
            )
        ),
        "1 BatchNorm left after folding (bn3: two layers read conv3)",
    ),
}


def test_a_quiet_and_complete_run_gives_no_warning():
    assert advise(run_with(B.make_row("ort", "folded"))) == ()


@pytest.mark.parametrize("kind", RULES)
def test_every_kind_of_warning_has_a_cause_that_gives_it_alone_with_its_numbers(kind):
    run, words = CAUSES[kind]
    found = advise(run)
    assert {advice.kind for advice in found} == {kind}
    assert words in sentence(found)


def test_several_rows_of_one_kind_are_one_sentence_about_the_worst():
    rows = (
        B.make_row("ort", "unfolded", accuracy=B.make_accuracy(top1_equal=9999)),
        B.make_row("ort", "folded", accuracy=B.make_accuracy(top1_equal=9990)),
    )
    found = advise(run_with(*rows))
    assert [advice.subject for advice in found] == ["ort/unfolded/cpu", "ort/folded/cpu"]
    text = sentence(found)
    assert text.startswith("2 rows, at worst ort/folded/cpu: another class")
    assert "on 10 of 10,000" in text


def test_rows_that_did_not_run_are_not_warned_about():
    lost = B.make_lost_row("ort", "folded", "cuda", "failed", "no driver")
    assert advise(run_with(lost)) == ()


def test_a_cuda_row_may_have_its_own_number_of_threads():
    assert advise(run_with(B.make_row("ort", "folded", requested_device="cuda", threads=1))) == ()
