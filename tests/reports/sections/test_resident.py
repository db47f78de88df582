"""Times without transfers: a table, notes, self-checks and differences of their own."""

import pytest

from foldbench.bench.analysis.advice.rules import advise
from foldbench.bench.analysis.difference import compare_runs, find_regressions
from foldbench.bench.analysis.speedups import measure_speedup, timing_at
from foldbench.reports.commands.diff import describe_regression, render_difference
from foldbench.reports.formats.json_record import summary
from foldbench.reports.render import render
from foldbench.reports.sections.notes import sentence


def both(build, host_s, device_s, **changes):
    """Timings at batch 1 from host to host and on the device."""
    return (
        build.timing(1, build.steady(host_s, period=3)),
        build.timing(1, build.steady(device_s, period=3), boundary="device", **changes),
    )


def on_gpu(build, backend, variant, host_s, device_s, **changes):
    return build.row(
        backend,
        variant,
        requested_device="cuda",
        actual_device="cuda:0",
        timings=both(build, host_s, device_s),
        **changes,
    )


def gpu_run(build, scale=1.0, **changes):
    rows = (
        build.row("torch", "unfolded", timings=(build.timing(1, build.steady(0.002)),)),
        on_gpu(build, "torch", "unfolded", 0.0010, 0.0006),
        on_gpu(build, "ort", "folded", 0.0008, 0.0003 * scale, **changes),
    )
    return build.run(measurements=rows)


def section(text: str, title: str) -> str:
    """Return the part of a Markdown report under a heading."""
    (found,) = (part for part in text.split("\n## ") if part.startswith(title))
    return found


def test_speed_ups_are_between_times_of_the_same_boundary(build) -> None:
    run = gpu_run(build)
    row = run.measurements[2]
    found = {b: measure_speedup(run, row, 1, b) for b in ("host", "device")}
    assert found["host"].ratio.point == pytest.approx(1.25, rel=0.01)
    assert found["device"].ratio.point == pytest.approx(2.0, rel=0.01)
    assert timing_at(row, 1).boundary == "host"
    assert timing_at(run.measurements[0], 1, "device") is None


def test_there_is_a_second_table_for_the_device_and_only_then(build) -> None:
    text = render(gpu_run(build), "md")
    host = section(text, "End-to-end latency (host to host)")
    device = section(text, "GPU compute latency (device-resident)")
    assert [line.split("|")[1].strip() for line in host.splitlines() if "/c" in line] == [
        "torch/unfolded/cpu",
        "torch/unfolded/cuda",
        "ort/folded/cuda",
    ]
    rows = [line for line in device.splitlines() if "/cuda" in line]
    assert [row.split("|")[1].strip() for row in rows] == ["torch/unfolded/cuda", "ort/folded/cuda"]
    assert "0.300" in rows[1]
    assert "2.00" in rows[1]
    assert "without transfers" not in render(build.run(), "md")


def test_details_tell_the_boundaries_apart_and_name_why_the_rounds_ended(build) -> None:
    text = render(gpu_run(build), "md")
    starts = section(text, "Start-up and timed calls")
    assert "| boundary" in starts
    assert sum("| device" in line for line in starts.splitlines()) == 2
    assert "device-resident on cuda:0" in text
    assert "without transfers" in text
    assert "| boundary" not in render(build.run(), "md")


def test_the_self_check_of_each_boundary_is_a_row_of_its_own(build) -> None:
    again = on_gpu(
        build,
        "torch",
        "unfolded",
        0.0010,
        0.0006,
        contender="torch/unfolded/cuda again",
        role="again",
        accuracy=None,
    )
    run = gpu_run(build)
    run = run.model_copy(update={"measurements": (*run.measurements, again)})
    checks = summary(run)["self_checks"]
    assert [(c["boundary"], c["ratio"]) for c in checks] == [
        ("host", pytest.approx(1.0, abs=0.01)),
        ("device", pytest.approx(1.0, abs=0.01)),
    ]
    shown = section(render(run, "md"), "Self-checks")
    assert sum("| device" in line for line in shown.splitlines()) == 1


def test_a_warning_about_the_device_marks_its_row_there_alone(build) -> None:
    run = gpu_run(build)
    slow = (run.measurements[2].timings[0], both(build, 1, 0.0003, steady=False)[1])
    row = run.measurements[2].model_copy(update={"timings": slow})
    run = run.model_copy(update={"measurements": (*run.measurements[:2], row)})
    (found,) = advise(run)
    assert (found.kind, found.subject, found.boundary) == ("not_steady", row.contender, "device")
    assert "batch 1, device-resident" in sentence([found])
    text = render(run, "md")
    for title, marked in (("End-to-end latency", False), ("GPU compute latency", True)):
        (line,) = (x for x in section(text, title).splitlines() if "ort/folded/cuda" in x)
        assert line.rstrip(" |").endswith(" 1") is marked


def test_two_runs_differ_within_each_boundary(build) -> None:
    a, b = gpu_run(build), gpu_run(build, scale=1.5)
    found = compare_runs(a, b)
    verdicts = {(c.contender, c.boundary): c.verdict for c in found.latency}
    assert verdicts["ort/folded/cuda", "host"] == "no difference resolved"
    assert verdicts["ort/folded/cuda", "device"] == "slower"
    (worse,) = find_regressions(found, 0.05)
    assert (worse.contender, worse.boundary) == ("ort/folded/cuda", "device")
    assert worse.change == pytest.approx(0.5)
    assert "device-resident: slower by 50.00 %" in describe_regression(worse)
    text = render_difference(a, b, found)
    host, device = text.split("GPU compute latency (device-resident)")
    assert "slower" not in host
    assert "slower" in device


def test_a_boundary_of_one_run_alone_is_listed(build) -> None:
    a = gpu_run(build)
    rows = [m.model_copy(update={"timings": m.timings[:1]}) for m in a.measurements]
    b = a.model_copy(update={"measurements": tuple(rows)})
    found = compare_runs(a, b)
    assert {(u.contender, u.boundary, u.a, u.b) for u in found.unmatched} == {
        ("torch/unfolded/cuda", "device", "ok", "not timed"),
        ("ort/folded/cuda", "device", "ok", "not timed"),
    }
    assert "batch 1, device-resident" in render_difference(a, b, found)
