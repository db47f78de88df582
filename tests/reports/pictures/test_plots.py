"""Pictures of a training: what is drawn in them, and the files they become."""

from pathlib import Path

import numpy as np
import pytest

from foldbench.bench.errors import ConfigError
from foldbench.reports.pictures.plots import (
    curve_of,
    draw_comparison,
    draw_filters,
    draw_losses,
    save_figure,
)
from foldbench.reports.rows.homework import references


def lines_of(axes) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}


@pytest.mark.parametrize(
    ("count", "grid"), [(32, (4, 8)), (64, (8, 8)), (5, (1, 5)), (12, (2, 8)), (1, (1, 1))]
)
def test_filters_stand_in_a_grid_of_eight_a_row_in_their_own_colours(count, grid) -> None:
    filters = np.random.default_rng(0).normal(size=(count, 3, 7, 5)).astype(np.float32)
    figure = draw_filters(filters, "conv1")
    assert figure.axes[0].get_gridspec().get_geometry() == grid
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(shown) == count
    assert shown[0].shape == (7, 5, 3)
    assert min(picture.min() for picture in shown) == 0
    assert max(picture.max() for picture in shown) == pytest.approx(1)
    # One scale for the whole layer: differences between filters stay what they are.
    spread = filters.max() - filters.min()
    assert np.allclose(
        (shown[0] - shown[-1]) * spread, (filters[0] - filters[-1]).transpose(1, 2, 0), atol=1e-5
    )


def test_filters_that_are_all_the_same_are_drawn_too() -> None:
    figure = draw_filters(np.ones((2, 3, 3, 3), np.float32), "conv1")
    assert np.isfinite(figure.axes[0].images[0].get_array()).all()


def test_a_loss_curve_stands_beside_the_homeworks_thirty_epochs(build) -> None:
    figure = draw_losses(curve_of(build.checkpoint("bn_cnn"), "bn_cnn"))
    drawn = lines_of(figure.axes[0])
    assert drawn["bn_cnn"] == [1.6, 0.8, pytest.approx(1.6 / 3)]
    assert tuple(drawn["homework"]) == references()["bn_cnn"].losses
    assert len(drawn["homework"]) == 30


def test_other_images_get_no_homework_curve(build) -> None:
    digits = build.checkpoint("bn_cnn", data=build.data(title="digits", classes=build.digits))
    assert set(lines_of(draw_losses(curve_of(digits, "bn_cnn")).axes[0])) == {"bn_cnn"}


def test_label_smoothing_is_named_because_it_raises_a_loss(build) -> None:
    smoothed = build.checkpoint(config=build.config(label_smoothing=0.1))
    assert curve_of(smoothed, "ours").label == "ours (label smoothing 0.1)"


def test_a_comparison_shows_each_curve_alone_and_all_of_them_together(build) -> None:
    names = ("mish_cnn", "bn_cnn", "deep_mish")
    figure = draw_comparison([curve_of(build.checkpoint(name), name) for name in names])
    *alone, together = figure.axes
    assert [axes.get_title() for axes in alone] == list(names)
    assert [set(lines_of(axes)) for axes in alone] == [{name, "homework"} for name in names]
    assert set(lines_of(together)) == {*names, *(f"homework, {name}" for name in names)}
    top = max(max(values) for values in lines_of(together).values())
    assert all(axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > top for axes in figure.axes)


def test_a_comparison_of_one_run_is_one_panel(build) -> None:
    (axes,) = draw_comparison([curve_of(build.checkpoint(), "bn_cnn")]).axes
    assert set(lines_of(axes)) == {"bn_cnn", "homework"}


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_curve_gives_the_same_file(build, tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{number}{suffix}" for number in (1, 2)]
    for path in paths:
        save_figure(draw_losses(curve_of(build.checkpoint(), "bn_cnn")), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(paths[0].read_bytes()) > 5000


def test_another_kind_of_file_is_refused(build, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found the suffix '\.gif'; allowed: \.png, \.svg"):
        save_figure(draw_losses(curve_of(build.checkpoint(), "x")), tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())
