"""Options that ask how a network is really called, as fields of the configuration."""

import json

import click
import pytest

from foldbench.bench.cli.compare import compare
from foldbench.bench.cli.options import _depth as depth
from foldbench.bench.cli.options import given_fields
from foldbench.bench.cli.profiling import profile
from foldbench.bench.cli.values import Moment
from foldbench.bench.config.files import load
from foldbench.bench.config.schema import Config


def config_of(*arguments: str) -> Config:
    with compare.make_context("compare", list(arguments)):
        fields = sorted(given_fields().items(), key=depth)
    texts = [f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in fields]
    return load("digits", texts).config


def test_deep_asks_for_all_and_what_is_said_of_one_of_them_wins() -> None:
    calling = config_of("--pauses", "0,2s", "--deep").compare.calling
    assert calling.pauses_s == (0.0, 2.0)
    assert (calling.cold_starts, calling.memory, calling.sweep) == (10, True, True)
    assert calling.streams == (1, 2, 4)
    assert calling.stages is None


def test_without_them_nothing_is_asked_for() -> None:
    calling = config_of().compare.calling
    assert not any((calling.pauses_s, calling.cold_starts, calling.memory, calling.streams))
    assert not calling.sweep


@pytest.mark.parametrize("sizes", ["auto", "1,auto", "0", "", "1,,8"])
def test_a_profile_takes_batch_sizes_and_looks_for_none(sizes: str) -> None:
    with pytest.raises(click.BadParameter, match="write such as 1,64"):
        profile.make_context("profile", ["--batch-sizes", sizes])
    context = profile.make_context("profile", ["--batch-sizes", "1,64"])
    assert context.params["compare__batch_sizes"] == "[1,64]"


def test_auto_is_one_image_and_a_sweep_from_there() -> None:
    section = config_of("--batch-sizes", "auto").compare
    assert (section.batch_sizes, section.calling.sweep) == ((1,), True)
    assert not config_of("--batch-sizes", "1,8").compare.calling.sweep


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ("250us", 250e-6), ("1ms", 1e-3), ("1.5s", 1.5), ("2", 2.0)]
)
def test_a_short_time_has_a_unit_or_is_seconds(text: str, seconds: float) -> None:
    assert Moment().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ms", "-1ms", "61s", "nan", "inf", "1m", "1 h"])
def test_what_is_no_short_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time"):
        Moment().convert(text, None, None)
