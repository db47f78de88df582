"""`bench compare --scenario` as a user meets it: what fits together, and what is said where not."""

import json
import shutil
import sys
from typing import get_args

import pytest

from builders import QUICK
from foldbench.bench.errors import MissingPackageError
from foldbench.bench.records import Scenario
from foldbench.bench.store.directory import Paths, RunDirectory

SET = [f"--set={text}" for text in (*QUICK, "compare.devices=[cpu]")]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--scenario server", "--qps"),
        ("--scenario singlestream,server", "--qps"),
        ("--scenario offline --qps 200", "--scenario server"),
        ("--qps 200", "--scenario server"),
        ("--duration 10s", "--scenario"),
        ("--scenario offline --rounds 3", "--rounds"),
        ("--scenario offline --budget 3s", "--budget"),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(options: str, named: str, bench) -> None:
    result = bench("compare", *options.split())
    assert result.exit_code == 2
    assert named in result.stderr.splitlines()[-1]


def test_an_unknown_scenario_names_those_that_there_are(bench, own_run: RunDirectory) -> None:
    result = bench("compare", own_run.name, "--scenario", "streaming")
    assert result.exit_code == 1
    assert "compare.loadgen.scenarios" in result.stderr
    assert all(f"'{name}'" in result.stderr for name in get_args(Scenario))


def test_a_configuration_with_a_server_needs_a_rate_too(bench, own_run: RunDirectory) -> None:
    result = bench("compare", own_run.name, "--set", "compare.loadgen.scenarios=[server]")
    assert result.exit_code == 1
    assert "compare.loadgen" in result.stderr


def test_without_loadgen_nothing_is_opened_or_trained(
    refusal, own_run: RunDirectory, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    shutil.rmtree(paths.cache, ignore_errors=True)
    scenario = "--set=compare.loadgen.scenarios=[singlestream]"
    for arguments in (
        ("compare", own_run.name, "--scenario", "singlestream", *SET),
        ("run", "digits", "--fresh", scenario, *SET),
    ):
        error = refusal(*arguments)
        assert isinstance(error, MissingPackageError)
        assert "foldbench[loadgen]" in str(error)
    assert [path.name for path in paths.runs.iterdir()] == [own_run.name]
    assert not own_run.is_compared()


def test_torch_and_onnxruntime_are_driven_and_reported_in_place_of_the_rounds(
    bench, own_exported_run: RunDirectory, paths: Paths
) -> None:
    pytest.importorskip("mlperf_loadgen", reason="LoadGen has no build for this platform")
    scenarios = ("--scenario", "singlestream,offline,server", "--qps", "2000")
    settings = (*SET, "--set=compare.self_checks=true", "--duration", "0.1s")
    compared = bench("compare", own_exported_run.name, *scenarios, "--json", *settings)
    assert compared.exit_code == 0, compared.output
    (summary,) = json.loads(compared.stdout)["runs"]
    measured = {m.contender: m for m in own_exported_run.results().measurements}
    assert set(measured) == {"torch/unfolded/cpu", "torch/folded/cpu", "ort/folded/cpu"}
    assert len(summary["scenarios"]) == 9
    for m in measured.values():
        assert (m.status, m.reason, m.timings) == ("ok", None, ())
        assert m.accuracy is not None
        assert m.accuracy.agreement is not None
        single, offline, server = m.scenarios
        assert [r.scenario for r in m.scenarios] == ["singlestream", "offline", "server"]
        assert (offline.batch_sizes, server.batch_sizes) == ((3,), (1, 2, 3))
        assert (single.settings.min_duration_s, server.settings.target_qps) == (0.1, 2000)
        assert all(r.checked_outputs and r.settings.loaded_samples == 359 for r in m.scenarios)
    for form in ("terminal", "md"):
        text = bench("report", "--format", form).stdout
        assert "scenarios (LoadGen)" in text
        assert "Not an official" in text
        assert "End-to-end latency" not in text
    other = paths.runs / "digits-002"
    shutil.copytree(own_exported_run.path, other)
    for record in (other / "results.json", *other.glob("comparisons/*.json")):
        created = own_exported_run.results().created
        record.write_text(record.read_text().replace(created, "2026-01-01T00:00:00+00:00"))
    judged = ("diff", own_exported_run.name, other.name, "--fail-on", "5%")
    assert bench(*judged).exit_code == 4  # scenarios have no rounds to judge a latency by
    differed = bench(*judged, "--allow-unjudged")
    assert differed.exit_code == 0, differed.output
