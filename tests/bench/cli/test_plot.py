"""`bench plot`: pictures of a stored run, and where they are put."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from foldbench.bench.cli import cli
from foldbench.bench.errors import CheckpointError
from foldbench.bench.stages.plot import plot_run
from foldbench.bench.store.directory import RunDirectory


def test_a_network_without_colour_filters_is_named(own_run: RunDirectory, monkeypatch) -> None:
    from torch import nn

    monkeypatch.setattr(
        "foldbench.models.building.checkpoint.load_checkpoint", lambda *_: nn.Linear(3, 2)
    )
    with pytest.raises(CheckpointError, match="convolution"):
        plot_run(own_run, "filters", None)


def test_the_command_writes_pictures_into_the_run_or_where_it_is_told(
    own_run: RunDirectory, tmp_path: Path
) -> None:
    def call(*arguments: str):
        command = ["plot", *arguments, "--runs", str(own_run.path.parent)]
        return CliRunner().invoke(cli, command)

    assert f"written: {own_run.path / 'filters.png'}" in call(own_run.name, "filters").stdout
    assert Image.open(own_run.path / "filters.png").size[0] > 800
    assert call(f"{own_run.name}@1", "loss").exit_code == 0
    assert Image.open(own_run.path / "loss.png").size[0] > 800
    target = tmp_path / "all.svg"
    assert call(own_run.name, own_run.name, "compare", "-o", str(target)).exit_code == 0
    assert "<svg" in target.read_text(encoding="utf-8")
    assert '"written"' in call("compare", "--json").stdout
    assert (own_run.path.parent / "loss-compare.png").is_file()
    refused = call(own_run.name, own_run.name, "loss", "-o", str(target))
    assert refused.exit_code == 2
    assert "--output" in refused.stderr
