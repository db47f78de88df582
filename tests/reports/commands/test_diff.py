"""Two runs against each other: what is called a difference, what is refused, what fails a build."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from foldbench.bench.analysis.comparable import contrasts, require_comparable
from foldbench.bench.analysis.difference import compare_runs, find_regressions, find_unjudged
from foldbench.bench.analysis.estimates import paired_interval, unpaired_interval, unpaired_ratio
from foldbench.bench.cli import cli
from foldbench.bench.errors import RunError
from foldbench.bench.store.directory import create_run
from foldbench.reports.commands.diff import render_difference

IMAGES = 10000
NOTHING = "no difference resolved"


def scored(build, correct, flipped=0):
    """An accuracy with stored classes, the first `flipped` of which are 1 instead of 0."""
    top1 = (1,) * flipped + (0,) * (IMAGES - flipped)
    return build.accuracy(correct, IMAGES).model_copy(update={"top1": top1})


def torch_row(build, scale=1.0, **changes):
    """Unfolded torch, every block `scale` times as long as two milliseconds."""
    timings = (build.timing(1, build.steady(0.002 * scale)),)
    return build.row("torch", "unfolded", timings=timings, **changes)


def ort_row(build, scale=1.0, **changes):
    timings = (build.timing(1, build.steady(0.001 * scale)),)
    return build.row("ort", "folded", **{"timings": timings, **changes})


def again_row(build, scale):
    return torch_row(build, scale, contender="torch/unfolded/cpu again", role="again")


def run_of(build, *rows, **changes):
    return build.run(measurements=rows, **changes)


def latency_of(a, b, contender="ort/folded/cpu"):
    return next(row for row in compare_runs(a, b).latency if row.contender == contender)


@pytest.fixture
def pair(build):
    """A run, and one in which onnxruntime takes ten percent longer."""
    before = run_of(build, torch_row(build), ort_row(build))
    return before, run_of(build, torch_row(build), ort_row(build, 1.1))


@pytest.fixture
def diff(tmp_path):
    """Write two runs to the disk and call `bench diff` on them."""

    def call(a, b, *options):
        root = tmp_path / "runs"
        names = []
        for record in (a, b):
            directory = create_run(root, "bn_cnn", {})
            directory.write_checkpoint(record.checkpoint)
            directory.write_results(record)
            names.append(directory.name)
        return CliRunner().invoke(cli, ["diff", *names, "--runs", str(root), *options])

    return call


def test_a_run_does_not_differ_from_itself_and_its_record_is_refused(build, diff) -> None:
    run = build.run()
    found = compare_runs(run, run)
    judged = [row for row in found.latency if row.contender != row.reference]
    assert judged
    assert {row.verdict for row in (*judged, *found.accuracy)} == {NOTHING}
    assert all(row.ratio.low <= 1 <= row.ratio.high for row in judged)
    assert (found.contrasts, found.drifts, find_unjudged(found)) == ((), (), ())
    assert find_regressions(found, 0.0) == ()
    result = diff(run, run, "--fail-on", "0%")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert diff(run, run.model_copy(update={"created": "2026"})).exit_code == 1


def moved(build, scale, ort_scale=1.0, **changes):
    """A run on a machine on which all takes `scale` times as long, and onnxruntime yet more."""
    rows = torch_row(build, scale), ort_row(build, scale * ort_scale)
    return run_of(build, *rows, created="2026-01-01T00:00:00Z", **changes)


@pytest.mark.parametrize("scale", [1.05, 1.5, 0.9])
def test_a_machine_that_moves_all_rows_is_no_regression_and_is_named(build, diff, scale) -> None:
    pair = moved(build, 1), moved(build, scale)
    (drift,) = compare_runs(*pair).drifts
    assert (drift.together, drift.same_work, drift.device) == (True, True, "cpu")
    assert drift.reference_ratio == pytest.approx(scale)
    for other in (pair, pair[::-1]):
        assert latency_of(*other).verdict == NOTHING
        result = diff(*other, "--fail-on", "5%")
        assert result.exit_code == 0, result.output
        assert "machine drifted" in " ".join(result.stdout.split())


def test_a_row_that_is_slower_beyond_the_drift_of_its_machine_is_found(build, diff) -> None:
    pair = moved(build, 1), moved(build, 0.8, 1.2)
    row = latency_of(*pair)
    assert (row.verdict, row.ratio.point) == ("slower", pytest.approx(1 / 1.2))
    assert row.time_ratio == pytest.approx(0.96)
    assert diff(*pair, "--fail-on", "5%").exit_code == 3
    (drift,) = compare_runs(*pair).drifts
    assert not drift.together


def test_other_weights_may_have_slowed_all_rows_and_that_is_said(build) -> None:
    a, b = moved(build, 1), moved(build, 1.2)
    rows = [m.model_copy(update={"source_sha256": build.sha("9")}) for m in b.measurements]
    b = b.model_copy(update={"measurements": tuple(rows)})
    (drift,) = compare_runs(a, b).drifts
    assert (drift.together, drift.same_work) == (True, False)
    assert "bench compare RUN_A RUN_B" in " ".join(
        render_difference(a, b, compare_runs(a, b)).split()
    )


def test_another_network_has_another_baseline_and_cannot_be_judged(build, diff) -> None:
    a = moved(build, 1)
    b = moved(build, 1.2, checkpoint=build.checkpoint(parameter_count=99))
    result = diff(a, b, "--fail-on", "5%")
    assert result.exit_code == 4
    assert result.stderr.count("cannot tell") == 2
    assert diff(a, b).exit_code == 0
    assert diff(a, b, "--fail-on", "5%", "--allow-unjudged").exit_code == 0


def test_two_runs_of_the_same_rounds_are_judged_round_by_round(build, diff) -> None:
    a = moved(build, 1, group=build.sha("1"))
    b = moved(build, 1.2, group=build.sha("1"), checkpoint=build.checkpoint(parameter_count=99))
    found = compare_runs(a, b)
    assert {row.verdict for row in found.latency} == {"slower"}
    assert latency_of(a, b).ratio.point == pytest.approx(1 / 1.2)
    assert (found.drifts, find_unjudged(found)) == ((), ())
    assert diff(a, b, "--fail-on", "5%").exit_code == 3


def test_what_has_no_baseline_in_both_runs_cannot_be_judged(build, diff) -> None:
    a = moved(build, 1)
    alone = run_of(build, ort_row(build, 1.1))
    other = moved(build, 1, 1.1, baseline="ort/folded")
    for b in (alone, other):
        row = latency_of(a, b)
        assert (row.ratio, row.verdict) == (None, None)
        assert row.unjudged
        assert diff(a, b, "--fail-on", "5%").exit_code == 4
    lonely = run_of(build, torch_row(build)), run_of(build, torch_row(build, 1.3))
    (row,) = compare_runs(*lonely).latency
    assert row.unjudged
    assert diff(*lonely, "--fail-on", "5%").exit_code == 4


def test_a_regression_outweighs_what_cannot_be_judged(build, diff) -> None:
    a = run_of(build, torch_row(build), ort_row(build), torch_row(build, contender="old/cpu"))
    assert diff(a, moved(build, 1), "--fail-on", "5%").exit_code == 4
    assert diff(a, moved(build, 1, 1.2), "--fail-on", "5%").exit_code == 3


def test_the_last_two_comparisons_of_one_run_are_compared(build, tmp_path) -> None:
    directory = create_run(tmp_path, "bn_cnn", {})
    directory.write_checkpoint(build.checkpoint())

    def call(*arguments):
        return CliRunner().invoke(cli, ["diff", *arguments, "--runs", str(tmp_path), "--json"])

    for scale in (1.3, 1):
        assert call("bn_cnn").exit_code == 1, "there is nothing to compare it with"
        directory.write_results(moved(build, 1, scale))
    directory.write_results(moved(build, 1, 1.1))
    two = json.loads(call("bn_cnn-001").stdout)
    assert (two["a"]["run"], two["b"]["run"]) == ("bn_cnn-001@2", "bn_cnn-001@3")
    assert [row["verdict"] for row in two["latency"]] == [None, "slower"]
    three = json.loads(call("bn_cnn-001", "--last", "3").stdout)
    assert (three["a"]["run"], three["latency"][1]["verdict"]) == ("bn_cnn-001@1", "faster")
    assert json.loads(call("bn_cnn@-1", "bn_cnn").stdout)["a"]["run"] == "bn_cnn-001@2"
    assert call("bn_cnn@3", "bn_cnn").exit_code == 1, "it is the same one"
    assert call("bn_cnn", "--last", "4").exit_code == 1
    assert call("bn_cnn@1", "bn_cnn", "--last", "2").exit_code == 2
    assert call("bn_cnn", "--allow-unjudged").exit_code == 2


def test_ten_percent_slower_is_slower_and_fails_a_limit_of_five_not_of_twenty(pair, diff) -> None:
    row = latency_of(*pair)
    assert row.verdict == "slower"
    assert row.ratio.point == pytest.approx(1 / 1.1)
    assert row.ratio.low < 1 / 1.1 < row.ratio.high < 1
    assert row.a_s == pytest.approx(0.001, rel=0.01)
    failed = diff(*pair, "--fail-on", "5%")
    assert failed.exit_code == 3
    assert "slower by 10.00 %" in failed.stderr
    assert diff(*pair, "--fail-on", "20").exit_code == 0
    assert diff(*pair).exit_code == 0
    assert latency_of(pair[1], pair[0]).verdict == "faster"


def test_only_what_the_files_do_not_explain_is_blamed_on_the_machine(build, pair) -> None:
    shown = render_difference(*pair, compare_runs(*pair))
    assert "ran the same file" in shown
    other = run_of(build, torch_row(build), ort_row(build, 1.1, source_sha256=build.sha("7")))
    assert "same file" not in render_difference(pair[0], other, compare_runs(pair[0], other))


def test_nothing_is_claimed_below_the_noise_floor_of_either_run(build, pair) -> None:
    quiet = run_of(build, torch_row(build), ort_row(build), again_row(build, 1.001))
    noisy = run_of(build, torch_row(build), ort_row(build, 1.1), again_row(build, 1.2))
    for a, b in ((quiet, noisy), (noisy, quiet)):
        row = latency_of(a, b)
        assert row.noise_floor == pytest.approx(1 - 1 / 1.2)
        assert row.verdict == NOTHING
    assert {r.contender for r in compare_runs(quiet, noisy).latency} == {
        "torch/unfolded/cpu",
        "ort/folded/cpu",
    }
    assert latency_of(*pair).noise_floor is None


def dirty(timing, clean):
    """`timing` with all but the first `clean` blocks disturbed."""
    blocks = tuple(
        replace(block, run_delay_ratio=0.0 if block.round < clean else 0.9)
        for block in timing.blocks
    )
    return timing.model_copy(update={"blocks": blocks})


def test_on_a_loaded_machine_the_floors_are_given_and_nothing_is_judged(build, pair, diff) -> None:
    timing = dirty(build.timing(1, build.steady(0.0013)), clean=7)
    loaded = run_of(build, torch_row(build), ort_row(build, timings=(timing,)))
    row = latency_of(pair[0], loaded)
    assert (row.ratio, row.verdict, row.b_clean_blocks) == (None, None, 7)
    assert row.floor_ratio == pytest.approx(1 / 1.3)
    result = diff(pair[0], loaded, "--fail-on", "5%")
    assert result.exit_code == 4
    assert "cannot tell" in result.stdout
    assert result.stderr.startswith("cannot tell: ONNX Runtime (folded) at batch 1")
    assert diff(pair[0], loaded, "--fail-on", "5%", "--allow-unjudged").exit_code == 0
    assert diff(pair[0], loaded).exit_code == 0


def test_dirty_blocks_do_not_count(build, pair) -> None:
    slow_when_disturbed = [*build.steady(0.001, rounds=8), 0.009, 0.009]
    timing = dirty(build.timing(1, slow_when_disturbed), clean=8)
    row = latency_of(pair[0], run_of(build, torch_row(build), ort_row(build, timings=(timing,))))
    assert row.ratio.point == pytest.approx(1, rel=0.01)


def changed_conditions(build, environment=(), **changes):
    run = build.run(**changes)
    return run.model_copy(update={"environment": {**run.environment, **dict(environment)}})


@pytest.mark.parametrize(
    ("environment", "a", "b"),
    [
        ({"cpu": "Xeon"}, "cpu: AMD EPYC 7R13 in A", "Xeon in B"),
        ({"machine": "aarch64"}, "machine: x86_64 in A", "aarch64 in B"),
        ({"cores_usable": 8}, "cores_usable: 2 in A", "8 in B"),
        ({"torch": "2.15.0"}, "torch: 2.14.1 in A", "2.15.0 in B"),
        ({"onnxruntime": "1.32"}, "onnxruntime: 1.31.1 in A", "1.32 in B"),
    ],
)
def test_another_machine_or_library_spoils_the_latency(build, environment, a, b) -> None:
    with pytest.raises(RunError) as refused:
        require_comparable(build.run(), changed_conditions(build, environment))
    assert f"{a}, {b} (spoils latency)" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_difference_is_named_with_both_values(build, diff) -> None:
    a = run_of(build, torch_row(build), ort_row(build))
    rows = torch_row(build, threads=4), ort_row(build, precision="bfloat16")
    b = run_of(build, *rows, evaluation_sha256=build.sha("e"), checkpoint=build.checkpoint("own"))
    result = diff(a, b)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    for text in (
        "model: bn_cnn in A, own in B (spoils latency and accuracy)",
        "evaluation images (sha256): ffffffffffff in A, eeeeeeeeeeee in B (spoils accuracy)",
        "threads of torch/unfolded/cpu: 2 in A, 4 in B",
        "precision of ort/folded/cpu: float32 in A, bfloat16 in B",
        "--force",
    ):
        assert text in line
    assert result.stdout == ""


def test_two_pretrained_networks_of_one_model_are_not_comparable(build) -> None:
    a, b = (
        build.run(checkpoint=build.checkpoint("pretrained", model_args={"arch": arch}))
        for arch in ("resnet50", "swin_t")
    )
    (found,) = [c for c in contrasts(a, b) if c.spoils]
    assert (found.what, found.a, found.b) == (
        "model",
        "pretrained, resnet50",
        "pretrained, swin_t",
    )
    assert found.spoils == ("latency", "accuracy")
    with pytest.raises(RunError):
        require_comparable(a, b)


def test_a_difference_that_all_rows_share_is_named_once(build) -> None:
    a = run_of(build, torch_row(build), ort_row(build))
    b = run_of(build, torch_row(build, threads=1), ort_row(build, threads=1))
    assert [(c.what, c.a, c.b) for c in contrasts(a, b) if c.spoils] == [("threads", "2", "1")]


def test_other_batch_sizes_are_refused(build) -> None:
    a = run_of(build, ort_row(build))
    b = run_of(build, ort_row(build, timings=(build.timing(8, build.steady(0.004)),)))
    with pytest.raises(RunError, match="batch sizes: 1 in A"):
        require_comparable(a, b)


def test_a_gpu_counts_only_where_something_ran_on_it(build) -> None:
    gpu = {"gpu": "H100", "driver": "550"}
    cpu_only = [c for c in contrasts(build.run(), changed_conditions(build, gpu)) if c.spoils]
    assert cpu_only == []
    rows = (build.row("torch", "unfolded", requested_device="cuda"),)
    a, b = run_of(build, *rows), changed_conditions(build, gpu, measurements=rows)
    spoiling = [(c.what, c.a, c.b) for c in contrasts(a, b) if c.spoils]
    assert spoiling == [("gpu", "none", "H100"), ("driver", "none", "550")]


def test_force_compares_all_the_same_below_a_warning(pair, build, diff) -> None:
    environment = {**pair[1].environment, "cpu": "Xeon"}
    other = pair[1].model_copy(update={"environment": environment})
    result = diff(pair[0], other, "--force")
    assert result.exit_code == 0
    warning = result.stdout.index("cpu: AMD EPYC 7R13 in A, Xeon in B (spoils latency)")
    assert result.stdout.index("not comparable") < warning < result.stdout.index("slower")
    assert diff(pair[0], other, "--force", "--fail-on", "5%").exit_code == 3


def test_other_weights_and_another_foldbench_are_mentioned_not_refused(build) -> None:
    b = changed_conditions(
        build,
        {"git_revision": "fedcba987654", "load_1min": 1.9},
        checkpoint=build.checkpoint(sha256=build.sha("8"), seed=1),
    )
    require_comparable(build.run(), b)
    shown = render_difference(build.run(), b, compare_runs(build.run(), b))
    for text in ("checkpoint (sha256)", "88888888", "training seed", "fedcba987654"):
        assert text in shown
    assert "load_1min" not in shown


def test_a_fact_that_only_one_run_recorded_is_unknown_rather_than_different(build) -> None:
    assert contrasts(build.run(), changed_conditions(build, {"governor": "performance"})) == ()


def test_thread_settings_of_one_run_alone_are_mentioned(build) -> None:
    without = changed_conditions(build, {"environment_variables": None})
    (found,) = contrasts(build.run(), without)
    assert (found.what, found.a, found.b, found.spoils) == (
        "environment_variables",
        "OMP_NUM_THREADS=2",
        "none",
        (),
    )


def test_rows_on_one_side_and_rows_that_failed_are_listed_with_the_reason(build, diff) -> None:
    a = run_of(build, torch_row(build), ort_row(build), torch_row(build, contender="old/cpu"))
    lost = build.lost_row("ort", "folded", "cpu", "failed", "killed: out of memory")
    b = run_of(build, torch_row(build), lost, torch_row(build, contender="new/cpu"))
    found = compare_runs(a, b)
    assert [(row.contender, row.a, row.b) for row in found.unmatched] == [
        ("ort/folded/cpu", "ok", "failed"),
        ("old/cpu", "ok", "absent"),
        ("new/cpu", "absent", "ok"),
    ]
    assert [row.contender for row in found.latency] == ["torch/unfolded/cpu"]
    assert [row.contender for row in found.accuracy] == ["torch/unfolded/cpu"]
    result = diff(a, b, "--fail-on", "50%")
    assert result.exit_code == 3
    assert "ONNX Runtime (folded): ok in A, failed" in result.stderr
    assert "killed: out of memory" in result.stdout
    assert diff(b, a, "--fail-on", "50%", "--allow-unjudged").exit_code == 0


def test_a_batch_size_of_one_run_alone_is_listed(build) -> None:
    both = (build.timing(1, build.steady(0.001)), build.timing(8, build.steady(0.004)))
    a, b = run_of(build, ort_row(build, timings=both)), run_of(build, ort_row(build))
    (row,) = compare_runs(a, b).unmatched
    assert (row.batch_size, row.a, row.b) == (8, "ok", "not timed")
    assert find_regressions(compare_runs(a, b), 0.0) == ()


def test_accuracy_on_the_same_images_is_compared_image_by_image(build, diff) -> None:
    torch = torch_row(build, accuracy=None)
    a = run_of(build, torch, ort_row(build, accuracy=scored(build, 9000)))
    few = run_of(build, torch, ort_row(build, accuracy=scored(build, 8995, flipped=5)))
    many = run_of(build, torch, ort_row(build, accuracy=scored(build, 8900, flipped=150)))
    (row,) = compare_runs(a, few).accuracy
    assert (row.paired, row.images, row.top1_different) == (True, IMAGES, 5)
    assert row.difference == pytest.approx(-0.0005)
    assert row.verdict == NOTHING
    (row,) = compare_runs(a, many).accuracy
    assert row.verdict == "less accurate"
    assert row.low < -0.01 < row.high < 0
    failed = diff(a, many, "--fail-on", "0.5%")
    assert failed.exit_code == 3
    assert "less accurate by 1.00" in failed.stderr
    assert diff(a, many, "--fail-on", "5%").exit_code == 0


def test_accuracy_on_other_images_gets_the_wider_unpaired_interval(build) -> None:
    a = run_of(build, ort_row(build, accuracy=scored(build, 9000)))
    b = run_of(build, ort_row(build, accuracy=scored(build, 8900)), evaluation_sha256="0" * 64)
    (row,) = compare_runs(a, b).accuracy
    assert (row.paired, row.top1_different, row.images) == (False, None, None)
    assert row.low < -0.018
    assert "Newcombe" in render_difference(a, b, compare_runs(a, b))


@pytest.mark.parametrize(("lost", "resolved"), [(5, False), (6, True)])
def test_the_paired_interval_agrees_with_mcnemars_exact_test(lost, resolved) -> None:
    """Two-sided p is 2 · 0.5^lost when all discordant images go one way: 0.0625 and 0.031."""
    low, high = paired_interval(-lost, lost, IMAGES)
    assert (high < 0) == resolved
    assert low < -lost / IMAGES < high or resolved


def test_without_labels_the_paired_interval_covers_at_least_as_often_as_it_says() -> None:
    """Two networks of ten classes; the true difference is 2 points, half the errors are shared."""
    rng = np.random.default_rng(0)
    hits = wider = 0
    for _ in range(300):
        labels, wrong = rng.integers(0, 10, 1000), rng.integers(1, 10, 1000)
        draw = rng.random(1000)
        a = (labels + wrong * (draw < 0.10)) % 10
        b = (labels + wrong * ((draw > 0.05) & (draw < 0.13))) % 10
        right_a, right_b = a == labels, b == labels
        gain = int(right_b.sum()) - int(right_a.sum())
        low, high = paired_interval(gain, int((a != b).sum()), 1000)
        labelled = paired_interval(gain, int((right_a != right_b).sum()), 1000)
        hits += low <= 0.02 <= high
        wider += low <= labelled[0] and high >= labelled[1]
    assert hits >= 0.93 * 300
    assert wider == 300


def test_the_unpaired_interval_is_newcombes(build) -> None:
    """Method 10 in Newcombe's table II: 56/70 against 48/80 gives 0.0524 to 0.3339."""
    interval = unpaired_interval(48, 80, 56, 70)
    assert interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_interval_of_a_ratio_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        a, b = rng.normal(1.1, 0.02, 20), rng.normal(1.0, 0.02, 20)
        ratio = unpaired_ratio(a.tolist(), b.tolist(), draws=400)
        hits += ratio.low <= 1.1 <= ratio.high
    assert 180 <= hits <= 199


def test_the_same_blocks_of_two_runs_give_the_same_interval_as_before() -> None:
    a, b = [1.0 + k / 10 for k in range(9)], [1.0 + k / 20 for k in range(6)]
    ratio = unpaired_ratio(a, b)
    assert ratio.point == pytest.approx(1.4 / 1.125)
    assert (ratio.low, ratio.high) == pytest.approx((1.0, 1.36 / 0.9))


def test_a_ratio_needs_blocks_on_both_sides_and_five_for_an_interval() -> None:
    assert unpaired_ratio([], [1.0]) is None
    assert unpaired_ratio([0.0], [1.0]) is None
    few = unpaired_ratio([2.0] * 4, [1.0] * 9)
    assert (few.point, few.low, few.high, few.rounds) == (2.0, None, None, 4)


@pytest.mark.parametrize("text", ["five", "-5%", "5%%", "inf", "0.05", "nan", ""])
def test_a_limit_that_is_no_clear_percentage_is_a_usage_error(pair, diff, text) -> None:
    result = diff(*pair, f"--fail-on={text}")
    assert result.exit_code == 2
    assert "'--fail-on'" in result.stderr


def test_json_holds_the_same_and_nothing_else_on_stdout(pair, diff) -> None:
    result = diff(*pair, "--json", "--fail-on", "5%")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert found["comparable"] is True
    assert found["fail_on"] == 0.05
    assert [row["verdict"] for row in found["latency"]] == [None, "slower"]
    assert (found["unjudged"], found["drifts"]) == ([], [])
    (worse,) = found["regressions"]
    assert (worse["kind"], worse["contender"], worse["batch_size"]) == (
        "slower",
        "ort/folded/cpu",
        1,
    )
    assert worse["change"] == pytest.approx(0.1)


def test_a_run_that_was_not_compared_says_how_to(pair, tmp_path) -> None:
    directory = create_run(tmp_path, "bn_cnn", {})
    arguments = ["diff", directory.name, directory.name, "--runs", str(tmp_path)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert "bench compare bn_cnn-001" in result.stderr
