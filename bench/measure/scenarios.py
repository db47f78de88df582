"""MLPerf Inference scenarios of a comparison: one contender after the other, driven by LoadGen."""

from collections.abc import Sequence
from dataclasses import replace

from foldbench.bench import units
from foldbench.bench.config.comparison import CompareSection
from foldbench.bench.measure.running import Contender, failures_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Scenario
from foldbench.bench.timing.scenarios import ScenarioOptions


def measure_scenarios(
    contenders: Sequence[Contender],
    settings: CompareSection,
    listener: ProgressListener,
    repeat: int = 1,
) -> None:
    """Have LoadGen drive the contenders that are still in, one at a time.

    Their `scenarios` and failures are noted in them; what is there already is not made again.
    `repeat` is the number of this repetition.
    """
    for scenario in dict.fromkeys(settings.loadgen.scenarios):
        options = _options(scenario, settings)
        made = scenario, repeat
        alive = [
            contender
            for contender in contenders
            if contender.is_ok
            and made not in [(r.scenario, r.repeat) for r in contender.result.scenarios]
        ]
        again = f", repetition {repeat}" if settings.repeat > 1 else ""
        listener.begin(
            f"{scenario} for {units.plain(options.duration_s)} s or more{again}", len(alive)
        )
        for number, contender in enumerate(alive):
            listener.advance(number, contender.name)
            result = None
            with failures_of(contender):
                result = contender.require_worker().run_scenario(options)
            if result is not None:
                contender.add_scenario(replace(result, repeat=repeat))
        listener.end()


def _options(scenario: Scenario, settings: CompareSection) -> ScenarioOptions:
    loadgen = settings.loadgen
    server = scenario == "server"
    return ScenarioOptions(
        scenario=scenario,
        duration_s=loadgen.duration_s,
        batch_size=loadgen.batch_size or max(settings.batch_sizes),
        warm_up_s=settings.warm_up_s,
        seed=settings.seed,
        qps=loadgen.qps if server else None,
        latency_bound_s=loadgen.latency_bound_s if server else None,
    )
