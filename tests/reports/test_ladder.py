"""The ladder: what each step gave over the one before."""

import pytest

from reports.ladder import ladder_steps
from reports.render import render

STEPS = {"unfolded": 0.004, "plain": 0.002, "plain+mish": 0.001}


@pytest.fixture
def ladder(build):
    """A run of three steps, 4, 2 and 1 ms at batch 1."""
    rows = tuple(
        build.row(
            "torch" if variant == "unfolded" else "ort",
            variant,
            timings=(build.timing(1, build.steady(seconds, period=2 + i)),),
        )
        for i, (variant, seconds) in enumerate(STEPS.items())
    )
    config = build.config()
    config["compare"]["ladder"] = True
    return build.run(config=config, measurements=rows)


def test_each_step_has_its_own_gain_and_an_interval(ladder):
    first, second, third = ladder_steps(ladder)
    assert (first.before, first.gain) == (None, None)
    assert second.before == "torch/unfolded/cpu"
    assert third.before == "ort/plain/cpu"
    for step in (second, third):
        assert step.gain.point == pytest.approx(2, rel=0.01)
        assert step.gain.low <= step.gain.point <= step.gain.high
    assert third.row.speedup_ratio == pytest.approx(4, rel=0.01)


def test_every_form_shows_it(ladder):
    for form in ("terminal", "md", "html"):
        assert "The ladder: what each step gave" in render(ladder, form)
    page = render(ladder, "html")
    assert 'id="figure-ladder"' in page
    assert "ort/plain+mish/cpu: ×2.00" in page


def test_a_comparison_that_is_no_ladder_has_none(build):
    assert not list(ladder_steps(build.run()))
    assert "ladder" not in render(build.run(), "md").lower()


def test_too_few_clean_rounds_give_no_gain(build):
    config = build.config()
    config["compare"]["ladder"] = True
    busy = build.timing(1, build.steady(0.001), dirty=range(1, 10))
    rows = build.row("torch", "unfolded"), build.row("ort", "plain", timings=(busy,))
    _, step, *_ = ladder_steps(build.run(config=config, measurements=rows))
    assert step.gain is None
