"""The homework's figures beside what was measured: no figure without a run."""

import json

import pytest

from foldbench.bench.records import Candidate, Checkpoint, Run, Transfer
from foldbench.reports.commands.homework import homework_json, render_homework
from foldbench.reports.rows.homework_table import homework_rows
from foldbench.reports.sections.transfer import describe_transfer

BREEDS = tuple(f"breed{n:02}" for n in range(37))


def transferred(build, arch: str, protocol: str, **data) -> Checkpoint:
    """Return a linear classifier on features of `arch`, trained on all of the pets or on `data`."""
    count = 35 if protocol == "homework" else 37
    images = {
        "title": "Oxford-IIIT Pet",
        "classes": BREEDS[:count],
        "train_count": 5912,
        "test_count": 1478,
        **data,
    }
    record = Transfer(
        weights="IMAGENET1K_V2",
        weights_sha256=build.sha("1"),
        features_sha256=build.sha("2"),
        feature_count=2048,
        classifier="adam",
        train_correct=5000,
        train_count=5912,
        test_correct=1105,
        test_count=1478,
        test_balanced_accuracy=0.74,
        extract_s=1.0,
        from_cache=False,
        fit_s=1.0,
    )
    return build.checkpoint(
        "pretrained",
        model_args={"arch": arch},
        data=build.data(**images),
        config=build.config(protocol=protocol),
        config_name=f"{arch}-{protocol}",
        transfer=record,
    )


def run_of(build, arch: str, protocol: str, name: str = "r-001", **data) -> Run:
    checkpoint = transferred(build, arch, protocol, **data)
    return build.run(checkpoint=checkpoint, name=name, evaluation_protocol="clean")


def test_without_runs_every_row_says_how_to_get_its_figure() -> None:
    rows = homework_rows([])
    assert [r.problem for r in rows] == [
        *("2.1", "2.2", "3", "3"),
        *("4.1", "4.1", "4.2", "4.2", "4.3", "4.3"),
        *("5", "5", "5", "5"),
    ]
    for row in rows:
        assert row.accuracy is None
        assert "bench " in row.remark
    reported = [r.homework_accuracy for r in rows if r.homework_accuracy is not None]
    assert reported == [0.7476, 0.7698, 0.7627, 0.8876, 0.9405]
    assert all(r.protocol == "homework" for r in rows if r.homework_accuracy is not None)


def test_a_run_fills_the_row_of_its_network_and_protocol(build) -> None:
    runs = [build.run("bn_cnn"), run_of(build, "resnet50", "homework")]
    rows = {(r.problem, r.protocol): r for r in homework_rows(runs)}
    assert rows["4.2", "homework"].run == "bn_cnn-1"
    assert rows["4.2", "homework"].accuracy is not None
    assert rows["4.2", "clean"].run is None
    assert rows["3", "homework"].run == "r-001"
    assert rows["3", "homework"].homework_accuracy == 0.7476
    assert rows["3", "clean"].accuracy is None
    assert rows["5", "homework"].run is None


def scored_run(build, arch: str, protocol: str, labels: list[int], answers: list[int]) -> Run:
    """Return a run whose one contender gave `answers` for images with these `labels`."""
    correct = sum(a == b for a, b in zip(labels, answers, strict=True))
    accuracy = build.accuracy(correct, len(labels)).model_copy(update={"top1": tuple(answers)})
    run = run_of(build, arch, protocol, name=f"{arch}-001")
    row = build.row("torch", "unfolded", accuracy=accuracy)
    return run.model_copy(update={"labels": tuple(labels), "measurements": (row,)})


def test_a_transfer_has_a_balanced_accuracy_of_its_own(build) -> None:
    labels = [0] * 35 + list(range(35))
    run = scored_run(build, "resnet50", "homework", labels, [0] * 70)
    row = next(r for r in homework_rows([run]) if r.run == run.name)
    assert row.accuracy == 36 / 70
    assert row.balanced == pytest.approx(1 / 35)
    rows = homework_rows([build.run("bn_cnn")])
    assert all(r.balanced is None for r in rows)
    assert "balanced %" in render_homework([row], markdown=True)


def test_the_errors_of_both_networks_are_counted_once_both_have_run(build) -> None:
    labels = list(range(35))
    cnn = scored_run(build, "resnet50", "homework", labels, [0] * 30 + labels[30:])
    swin = "swin_tiny_patch4_window7_224"
    transformer = scored_run(build, swin, "homework", labels, [*labels[:-2], 0, 0])
    (row, clean) = [r for r in homework_rows([cnn, transformer]) if "errors" in r.system]
    assert row.run == f"{swin}-001, resnet50-001"
    assert "Here 2 images" in row.remark
    assert "29 only the CNN, 0 both" in row.remark
    assert "homework 31 images" in row.remark
    assert clean.run is None
    assert "bench errors swin_t_pets resnet50_pets" in clean.remark
    other = transformer.model_copy(update={"evaluation_sha256": "0" * 64})
    (row, _) = [r for r in homework_rows([cnn, other]) if "errors" in r.system]
    assert row.run is None
    assert "different test splits" in row.remark


def test_a_report_says_how_the_classifier_was_chosen(build) -> None:
    run = run_of(build, "resnet50", "clean")
    path = [Candidate(inverse_regularisation=c, validation_accuracy=c / 10) for c in (1.0, 10.0)]
    transfer = run.checkpoint.transfer.model_copy(
        update={"classifier": "logistic", "candidates": tuple(path), "validation_count": 96}
    )
    checkpoint = run.checkpoint.model_copy(update={"transfer": transfer})
    text = describe_transfer(run.model_copy(update={"checkpoint": checkpoint}))
    assert "2,048 features of resnet50" in text
    assert "on 96 held-out" in text
    assert "C 1: 10.00 %" in text
    assert "C 10: 100.00 %" in text
    assert "balanced 74.00 %" in text
    assert "regularisation" not in describe_transfer(run)
    assert describe_transfer(build.run("bn_cnn")) == ""


def test_the_newest_run_stands_in_the_row(build) -> None:
    old = build.run("bn_cnn", name="old", created="2024-01-01T00:00:00Z")
    new = build.run("bn_cnn", name="new", created="2025-01-01T00:00:00Z")
    for runs in ([old, new], [new, old]):
        rows = {(r.problem, r.protocol): r for r in homework_rows(runs)}
        assert rows["4.2", "homework"].run == "new"


def seeded(build, seed: int, correct: int, name: str, **train) -> Run:
    checkpoint = build.checkpoint(
        "bn_cnn", seed=seed, config=build.config(protocol="homework", **train), config_name="bn_cnn"
    )
    run = build.run("bn_cnn", checkpoint=checkpoint, name=name)
    row = build.row("torch", "unfolded", accuracy=build.accuracy(correct, 10_000))
    return run.model_copy(update={"measurements": (row,)})


def test_runs_that_differ_in_the_seed_alone_stand_in_one_row_with_their_mean(build) -> None:
    runs = [seeded(build, n, 7500 + 100 * n, f"s{n}") for n in range(3)]
    runs += [seeded(build, 2, 1, "older"), seeded(build, 3, 9000, "longer", epochs=40)]
    runs[4] = runs[4].model_copy(update={"created": "2020-01-01T00:00:00Z"})
    row = next(r for r in homework_rows(runs) if r.run and r.run.startswith("s0"))
    assert row.run == "s0, s1, s2"
    assert row.accuracy == pytest.approx(0.76)
    assert row.seeds == (0.75, 0.76, 0.77)
    assert row.difference == pytest.approx(0.76 - 0.7627)
    assert row.low < 0.76 < row.high
    assert row.training_s == sum(e.duration_s for e in runs[0].checkpoint.history)
    assert "3 seeds" in row.remark


def test_a_training_time_says_what_it_was_taken_on(build) -> None:
    machines = [("cpu", 2), ("cpu", 1), ("cpu", 2), ("NVIDIA H200", 16)]
    runs = [seeded(build, n, 7500, f"s{n}") for n in range(len(machines))]
    for number, (device, cores) in enumerate(machines):
        trained = {"device": device, "environment": {"cores_usable": cores}}
        checkpoint = runs[number].checkpoint.model_copy(update=trained)
        runs[number] = runs[number].model_copy(update={"checkpoint": checkpoint})

    def said(chosen: list[Run]) -> str | None:
        return next(r.trained_on for r in homework_rows(chosen) if r.run and "s" in r.run)

    assert said(runs[:1]) == "2 cores"
    assert said(runs[1:2]) == "1 core"
    assert said(runs[:3]) == "1 or 2 cores"
    assert said(runs[3:]) == "NVIDIA H200"
    assert said(runs[2:]) == "NVIDIA H200 or 2 cores"


def test_a_recipe_of_our_own_has_rows_of_its_own(build) -> None:
    config = build.config(protocol="clean")
    checkpoint = build.checkpoint("bn_cnn", config=config, config_name="fast_bn_cnn")
    ours = build.run(checkpoint=checkpoint, name="ours", evaluation_protocol="clean")
    rows = [r for r in homework_rows([ours, build.run("bn_cnn")]) if r.problem == "4.2"]
    assert [(r.system, r.protocol, r.run) for r in rows] == [
        ("BNCNN", "homework", "bn_cnn-1"),
        ("BNCNN", "clean", None),
        ("BNCNN by fast_bn_cnn", "clean", "ours"),
    ]
    assert rows[2].homework_accuracy is None
    assert rows[2].difference == pytest.approx(rows[2].accuracy - 0.7627)


@pytest.mark.parametrize(
    ("arch", "data"),
    [
        ("resnet50", {"train_count": 480, "test_count": 120, "classes": BREEDS[:3]}),
        ("tf_efficientnet_lite0", {}),
    ],
)
def test_a_sample_or_another_network_has_no_figure_of_the_homework_beside_it(
    build, arch, data
) -> None:
    rows = homework_rows([run_of(build, arch, "clean", **data)])
    (row,) = [r for r in rows if r.accuracy is not None]
    assert row.problem == "like 3"
    assert row.homework_accuracy is None
    assert "no figure beside it" in row.remark


def test_random_weights_fill_nothing(build) -> None:
    checkpoint = transferred(build, "resnet50", "homework").model_copy(
        update={"random_weights": True, "transfer": None}
    )
    assert all(r.accuracy is None for r in homework_rows([build.run(checkpoint=checkpoint)]))


def test_it_is_shown_as_text_markdown_and_json(build) -> None:
    rows = homework_rows([build.run("bn_cnn")])
    text = render_homework(rows)
    assert max(map(len, text.splitlines())) <= 100
    assert "bench run swin_t_pets_homework --download" in " ".join(text.split())
    assert "| 4.2" in render_homework(rows, markdown=True)
    assert json.loads(json.dumps(homework_json(rows)))[0]["problem"] == "2.1"
