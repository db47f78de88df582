"""The benchmark on other people's networks: its columns, means and aims, from stored records."""

from dataclasses import replace
from pathlib import Path

import pytest

import builders as B
from benchmarks import zoo
from benchmarks import zoo_report as report
from benchmarks.zoo_report import Operators, Stored
from foldbench.bench.analysis.estimates import Ratio
from foldbench.bench.records import Block, Run, Timing


def timing(seconds: float) -> tuple[Timing, ...]:
    """Twelve clean rounds in three processes, each as fast as the others."""
    blocks = tuple(
        Block(round=n, process=1 + n // 4, samples_s=(seconds,), run_delay_ratio=0.0)
        for n in range(12)
    )
    return (Timing(batch_size=1, first_call_s=None, warmup_calls=0, blocks=blocks),)


def run(name: str, seconds: dict[tuple[str, str], float]) -> Run:
    rows = tuple(
        B.make_row(backend, variant, timings=timing(s), accuracy=None)
        for (backend, variant), s in seconds.items()
    )
    return B.make_run(name=name, baseline="ort/plain", rounds=12, measurements=rows)


@pytest.fixture
def stored() -> Stored:
    times = {("ort", "plain"): 4e-3, ("ort", "folded"): 4e-3, ("ort", "folded.host"): 2e-3}
    others = {("openvino", "folded"): 1e-3, ("openvino", "plain"): 9e-3}
    plain = {"Conv": 6e-3, "Sigmoid": 3e-3, "Mul": 1e-3}
    host = {"Conv": 6e-3, "Chain*": 1e-3}
    return Stored(
        name="net",
        runs=(run("net-001", {**times, **others}), run("net_deploy-001", {("ort", "plain"): 2e-3})),
        operators=(
            Operators("plain", "ok", None, plain),
            Operators("folded.host", "ok", None, host),
        ),
    )


def test_each_column_is_a_ratio_over_the_plain_export_in_the_same_rounds(stored: Stored) -> None:
    found = {name: ratio.point for name, ratio in report.speedups(stored, 1).items()}
    assert found == pytest.approx({"cpu": 1, "host": 2, "OpenVINO": 4, "own deploy form": 2})


def test_an_interval_is_shown_only_where_it_covers_processes() -> None:
    of_three = Ratio(1.5, 1.4, 1.6, rounds=12, processes=3)
    assert [report._shown(r) for r in (of_three, replace(of_three, processes=1), None)] == [
        "1.5 (1.4–1.6)",
        "1.50",
        "",
    ]


def test_elementwise_time_counts_own_operators_and_how_much_of_it_is_gone(stored: Stored) -> None:
    assert report.elementwise(stored) == pytest.approx((0.4, 0.75))


def test_an_aim_names_the_networks_that_miss_it(stored: Stored) -> None:
    found = [(aim.reached, aim.unclear, len(aim.missed)) for aim in report.aims([stored], [1])]
    assert found == [(1, 0, 0), (1, 0, 0), (0, 0, 1), (1, 0, 0)]


def test_what_an_interval_holds_both_of_is_neither_reached_nor_missed() -> None:
    aim = report.Aim("as fast")
    wide = Ratio(1.0, 0.9, 1.1, rounds=12, processes=3)
    for ratio in (wide, replace(wide, low=1.0), replace(wide, processes=1), None):
        aim.judge("net", ratio, least=0.98)
    aim.judge("net", replace(wide, high=0.95), least=0.98)
    assert (aim.reached, aim.unclear, aim.missed) == (1, 2, ["net (1)"])


def test_what_is_stored_is_read_back_and_gives_the_same_report(
    stored: Stored, tmp_path: Path
) -> None:
    path = tmp_path / "net.json"
    path.write_text(stored.to_json(), encoding="utf-8")
    text = report.to_report([stored])
    assert report.to_report([report.read_stored(path)]) == text
    assert "net at 1 (0.500)" in text


def test_the_mean_of_ratios_is_the_geometric_one() -> None:
    assert report.geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)


def test_a_network_that_failed_is_named_with_its_reason() -> None:
    assert "net: no luck" in report.to_report([Stored(name="net", failed="no luck")])


def test_the_zoo_has_fourteen_networks_and_four_with_a_deploy_form() -> None:
    assert len(zoo.NETWORKS) >= 14
    assert sum(entry.deploy is not None for entry in zoo.NETWORKS.values()) == 4


def test_networks_of_several_machines_name_theirs(stored: Stored) -> None:
    def on(cpu: str, name: str) -> Stored:
        runs = (r.model_copy(update={"environment": {"cpu": cpu}}) for r in stored.runs)
        return replace(stored, name=name, runs=tuple(runs))

    one, two = on("A", "first"), on("B", "second")
    text = report.to_report([one, two, on("A", "third")])
    assert "Machine: A" in report.to_report([one])
    assert [line for line in text.splitlines() if line.startswith("* (")] == [
        "* (1) A, None usable cores; .",
        "* (2) B, None usable cores; .",
    ]
    assert all(f"| {name} " in text for name in ("first (1)", "second (2)", "third (1)"))
