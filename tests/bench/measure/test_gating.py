"""The rounds of a gate, with networks that take known times."""

from pathlib import Path

import numpy as np
import pytest

from foldbench.bench.analysis.sequential import judge_changes
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.config.gate import GateSection
from foldbench.bench.errors import BackendError
from foldbench.bench.measure.contenders import ContenderSpec
from foldbench.bench.measure.gating import Gated, Rival, latency_test, measure_gate
from foldbench.bench.measure.running import Contender
from foldbench.bench.progress import NullListener
from foldbench.bench.timing.simulation import FakeClock, FakeSession
from foldbench.bench.workers.protocol import Job, Opened
from foldbench.bench.workers.server import WorkerServer

PROCESS_SD = 0.02
COMPARE = CompareSection(calls=2, settle_s=0.0)
SETTINGS = GateSection(block_s=0.0, warm_up_s=0.0, budget_s=1000, processes=24, rounds=2)


class Machine:
    """Starts workers whose processes differ, by 2 %, for as long as they live."""

    def __init__(self, step_s: dict[str, float], wrong: str | None = None) -> None:
        self.step_s, self.wrong = step_s, wrong
        self.random = np.random.default_rng(0)
        self.started: list[str] = []

    def start(self, job: Job) -> WorkerServer:
        factor = float(np.exp(PROCESS_SD * self.random.standard_normal()))
        step_s = self.step_s[job.variant] * factor
        self.started.append(job.variant)
        clock = FakeClock()
        session = FakeSession(lambda size: step_s * size, clock, classes=3)
        if job.variant == self.wrong and len(self.started) > 3:
            session.output = lambda: np.zeros((1, 3), np.float32)  # type: ignore[method-assign]
        return OpenWorker(job, clock, session)


class OpenWorker(WorkerServer):
    def load(self) -> float:
        return 0.0

    def open(self) -> Opened:
        return Opened("cpu", "fake", 1, "float32", 0.0, 0.0)

    def memory(self) -> int:
        return 2**20


@pytest.fixture
def gated(tmp_path: Path) -> Gated:
    images = np.random.default_rng(0).integers(0, 255, (6, 1, 2, 2)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)

    def rival(network: str, role="contender") -> Rival:
        job = Job(
            backend="fake",
            device="cpu",
            threads=1,
            variant=network,
            folder=tmp_path,
            path=tmp_path / "network.onnx",
            images=tmp_path / "images.npy",
            mean=(0.0,),
            std=(1 / 255,),
            classes=3,
            batch_size=6,
        )
        spec = ContenderSpec("fake", "given", "cpu", path=job.path, role=role)
        return Rival(Contender(spec, baseline="fake/given", network=network), job)

    return Gated(rival("BASE"), rival("BASE", "again"), rival("HEAD"))


def outcome_of(gated: Gated, settings: GateSection, batch_size: int = 1) -> str:
    found = gated.generations(batch_size)
    test = latency_test(settings, gated.most)
    return judge_changes(found.changes, found.controls, test).outcome


def test_a_network_that_is_half_as_slow_again_ends_it_within_four_generations(
    gated: Gated,
) -> None:
    machine = Machine({"BASE": 1e-3, "HEAD": 1.5e-3})
    measure_gate(gated, SETTINGS, COMPARE, NullListener(), start_worker=machine.start)
    assert outcome_of(gated, SETTINGS) == "worse"
    assert gated.processes <= 4
    assert machine.started.count("BASE") == 2 * machine.started.count("HEAD")
    assert len(machine.started) == 3 * gated.processes
    assert gated.memory[2] == [2**20] * gated.processes


def test_identical_networks_end_it_as_not_worse_and_every_process_is_new(gated: Gated) -> None:
    machine = Machine({"BASE": 1e-3, "HEAD": 1e-3})
    settings = SETTINGS.model_copy(update={"max_slower": 0.05})
    measure_gate(gated, settings, COMPARE, NullListener(), start_worker=machine.start)
    assert outcome_of(gated, settings) == "not worse"
    assert 3 <= gated.processes < 24
    assert len(gated.generations(1).changes) == gated.processes
    spread = float(np.std(gated.generations(1).changes, ddof=1))
    assert PROCESS_SD / 3 < spread < 3 * PROCESS_SD


def test_one_batch_size_that_is_worse_ends_it_and_a_decided_one_is_timed_no_more(
    gated: Gated,
) -> None:
    settings = SETTINGS.model_copy(update={"batch_sizes": (1, 2), "max_slower": 0.2})
    machine = Machine({"BASE": 1e-3, "HEAD": 1e-3})
    measure_gate(gated, settings, COMPARE, NullListener(), start_worker=machine.start)
    assert {outcome_of(gated, settings, size) for size in (1, 2)} == {"not worse"}
    timed = [len(gated.generations(size).changes) for size in (1, 2)]
    assert max(timed) == gated.processes


def test_the_budget_says_how_many_generations_there_can_be(gated: Gated) -> None:
    clock = FakeClock()
    machine = Machine({"BASE": 1e-3, "HEAD": 1.02e-3})

    def start(job: Job) -> WorkerServer:
        clock.advance(1.0)
        return machine.start(job)

    settings = SETTINGS.model_copy(update={"budget_s": 30.0})
    measure_gate(gated, settings, COMPARE, NullListener(), clock, start)
    assert gated.most == 10
    assert gated.processes <= 10
    assert clock() <= 30


def test_a_budget_for_two_generations_decides_nothing(gated: Gated) -> None:
    clock = FakeClock()
    machine = Machine({"BASE": 1e-3, "HEAD": 2e-3})

    def start(job: Job) -> WorkerServer:
        clock.advance(1.0)
        return machine.start(job)

    settings = SETTINGS.model_copy(update={"budget_s": 7.0})
    measure_gate(gated, settings, COMPARE, NullListener(), clock, start)
    assert (gated.processes, outcome_of(gated, settings)) == (2, "cannot tell")


def test_an_output_that_changes_from_process_to_process_is_an_error(gated: Gated) -> None:
    machine = Machine({"BASE": 1e-3, "HEAD": 1e-3}, wrong="HEAD")
    with pytest.raises(BackendError, match="HEAD does not run"):
        measure_gate(gated, SETTINGS, COMPARE, NullListener(), start_worker=machine.start)
    assert all(rival.contender.worker is None for rival in gated.rivals)
