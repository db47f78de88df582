"""How the tests are run: in two processes a core, the modules that take longest first."""

import gc
import os
import sys

import pytest

from foldbench.bench.machine.cpu import usable_cpus

CPUS = usable_cpus()


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures, and bind each of pytest-xdist's processes to a core.

    The process that only hands out tests needs no fixtures, which load torch. Processes whose
    threads wait for each other's cores are slower than with one thread each. Hundreds of processes
    start, so none compiles again what one has compiled, whatever the environment says.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return
    config.pluginmanager.import_plugin("shared_fixtures")
    _let_examples_take_their_time()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker and config.args_source is config.ArgsSource.TESTPATHS:
        _begin_elsewhere_than_the_others(config, int(worker))
    if worker and hasattr(os, "sched_setaffinity"):
        import torch

        os.sched_setaffinity(0, {CPUS[int(worker) % len(CPUS)]})
        torch.set_num_threads(1)


def _begin_elsewhere_than_the_others(config: pytest.Config, worker: int) -> None:
    """Collect the modules in turn from another one on: each is compiled by one process alone."""
    modules = sorted(map(str, config.rootpath.glob("tests/**/test_*.py")))
    first = worker * len(modules) // config.workerinput["workercount"]  # type: ignore[attr-defined]
    config.args[:] = modules[first:] + modules[:first]


def _let_examples_take_their_time() -> None:
    """Give Hypothesis no deadline: the first example may have to import what it tests."""
    from hypothesis import settings

    settings.register_profile("foldbench", deadline=None)
    settings.load_profile("foldbench")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: for much of its time a test waits for what it has started."""
    return 2 * len(CPUS)


def pytest_collection_finish() -> None:
    """Leave what has been imported out of every later search for garbage: it is most of it."""
    gc.freeze()


_LONGEST_FIRST = (
    *("test_commands", "test_docs", "test_pages", "test_comparison", "test_packaging"),
    *("test_in_a_browser", "test_own_networks", "test_add", "test_quantize", "test_every_model"),
    *("test_malformed_networks", "test_kills", "test_training", "test_transfer"),
    *("test_networks_from_the_field", "test_scenarios", "test_pretrained", "test_copy_cost"),
    *("test_export_options", "test_bisection", "test_ablation", "test_norms"),
    *("test_every_backend", "test_process_group", "test_page", "test_ratios", "test_doctor"),
    *("test_fresh_process", "test_reparameterized", "test_fold", "test_given_files"),
    *("test_resume", "test_sequential", "test_other_networks", "test_tune", "test_faults"),
    *("test_report", "test_openvino", "test_export", "test_every_pass", "test_terminal"),
    *("test_handing", "test_configurations", "test_screen", "test_tables"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest, so that no process is left alone with one."""

    def place(item: pytest.Item) -> tuple[int, str]:
        name = item.path.stem
        last = len(_LONGEST_FIRST)
        return _LONGEST_FIRST.index(name) if name in _LONGEST_FIRST else last, str(item.path)

    items.sort(key=place)
