"""The ablation: the effect of each step over the one before."""

import pytest

from foldbench.bench.records import AblationStep
from foldbench.reports.figures.ablation import ablation_figure
from foldbench.reports.figures.marks import assign
from foldbench.reports.render import render
from foldbench.reports.rows.ablation import ablation_rows

STEPS = {"unfolded": 0.004, "plain": 0.002, "bare+mish": 0.001}


def climb(build, rows):
    steps = tuple(AblationStep(contender=r.contender, what=f"step {r.variant}") for r in rows)
    return build.run(measurements=tuple(rows), ladder=steps)


@pytest.fixture
def ladder(build):
    """A run of three steps, 4, 2 and 1 ms at batch 1."""
    rows = [
        build.row(
            "torch" if variant == "unfolded" else "ort",
            variant,
            timings=(build.timing(1, build.steady(seconds, period=2 + i)),),
        )
        for i, (variant, seconds) in enumerate(STEPS.items())
    ]
    return climb(build, rows)


def test_each_step_has_its_own_gain_and_an_interval(ladder):
    first, second, third = ablation_rows(ladder)
    assert (first.before, first.start) == (None, None)
    for step in (second, third):
        assert step.before.point == pytest.approx(2, rel=0.01)
        assert step.before.low <= step.before.point <= step.before.high
    assert third.start.point == pytest.approx(4, rel=0.01)


def test_every_form_shows_it(ladder):
    for form in ("terminal", "md", "html"):
        assert "Ablation" in render(ladder, form)
    page = render(ladder, "html")
    assert 'id="figure-ladder"' in page
    assert "step bare+mish (ONNX Runtime, folded, + mish): ×2.00" in page


def test_a_comparison_that_is_no_ablation_has_none(build):
    assert not ablation_rows(build.run())
    assert "ablation" not in render(build.run(), "md").lower()


def test_too_few_clean_rounds_give_no_gain(build):
    busy = build.timing(1, build.steady(0.001), dirty=range(1, 10))
    rows = build.row("torch", "unfolded"), build.row("ort", "plain", timings=(busy,))
    _, step, *_ = ablation_rows(climb(build, rows))
    assert step.before is None
    assert step.latency.median_s is not None


def test_a_step_that_failed_is_passed_over(build):
    gone = build.row("ort", "plain", status="failed", reason="no memory", timings=())
    last = build.row("ort", "folded", timings=(build.timing(1, build.steady(0.001)),))
    first = build.row("torch", "unfolded", timings=(build.timing(1, build.steady(0.004)),))
    rows = ablation_rows(climb(build, [first, gone, last]))
    assert rows[1].before is None
    assert rows[1].latency.status == "failed"
    assert rows[2].before.point == pytest.approx(4, rel=0.01)


def on_cuda(build, variant, seconds, period=2, **changes):
    """A row of torch on the GPU; `seconds` a call at batch 1."""
    return build.row(
        "torch",
        variant,
        requested_device="cuda",
        actual_device="cuda:0",
        timings=(build.timing(1, build.steady(seconds, period=period)),),
        **changes,
    )


@pytest.fixture
def both_devices(build):
    """4 and 2 ms on the CPU, 1 and 0.8 ms on the GPU, where a second timing of it takes 1.4 ms."""
    rows = []
    for variant, cpu_s, cuda_s in (("unfolded", 0.004, 0.001), ("folded", 0.002, 0.0008)):
        cpu = (build.timing(1, build.steady(cpu_s)),)
        rows += [build.row("torch", variant, timings=cpu), on_cuda(build, variant, cuda_s, 3)]
    again = {"contender": "torch/unfolded/cuda again", "role": "again", "accuracy": None}
    run = climb(build, rows)
    check = on_cuda(build, "unfolded", 0.0014, 3, **again)
    return run.model_copy(update={"measurements": (*run.measurements, check)})


def test_each_device_has_a_ladder_of_its_own(both_devices):
    rows = ablation_rows(both_devices)
    assert [(row.step, row.contender) for row in rows] == [
        (0, "torch/unfolded/cpu"),
        (1, "torch/folded/cpu"),
        (0, "torch/unfolded/cuda"),
        (1, "torch/folded/cuda"),
    ]
    assert [row.device for row in rows] == ["cpu", "cpu", "cuda", "cuda"]
    assert [row.before and row.before.point for row in rows] == [
        None,
        pytest.approx(2),
        None,
        pytest.approx(1.25),
    ]
    assert [row.start and row.start.point for row in rows][1::2] == pytest.approx([2, 1.25])
    figure = ablation_figure((("mine", both_devices),), assign([row.contender for row in rows]), ())
    assert len(figure.panels) == 2


def test_a_step_is_judged_by_the_noise_of_its_own_device(both_devices):
    verdicts = [row.verdict for row in ablation_rows(both_devices)]
    assert verdicts == [None, "faster", None, "no difference resolved"]


def test_a_step_has_the_latency_that_its_gain_was_computed_from(build):
    """Rows without transfers are in the same run and have the same batch size."""
    seconds = {"unfolded": 0.004, "folded": 0.002}
    rows = [
        build.row(
            "torch",
            variant,
            timings=(
                build.timing(1, build.steady(host_s)),
                build.timing(1, build.steady(host_s / 10), boundary="device"),
            ),
        )
        for variant, host_s in seconds.items()
    ]
    medians = [row.latency.median_s for row in ablation_rows(climb(build, rows))]
    assert medians == pytest.approx([0.004, 0.002], rel=0.01)
