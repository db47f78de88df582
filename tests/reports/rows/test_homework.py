"""The homework's figures, and when a run may stand next to them."""

import pytest

from foldbench.reports.rows.homework import (
    Deviation,
    deviations,
    other_figures,
    reason_for_blank,
    reference_for,
    references,
)


@pytest.mark.parametrize(
    ("model", "problem", "accuracy", "first", "last", "learning_rate"),
    [
        ("mish_cnn", "4.1", 0.7698, 1.7267, 0.5823, 0.005),
        ("bn_cnn", "4.2", 0.7627, 1.5912, 0.6114, 0.005),
        ("deep_mish", "4.3", 0.8876, 1.1749, 0.1066, 0.0005),
    ],
)
def test_the_figures_are_those_of_the_notebook(
    model, problem, accuracy, first, last, learning_rate
):
    known = references()[model]
    assert (known.problem, known.accuracy) == (problem, accuracy)
    assert (len(known.losses), known.losses[0], known.losses[-1]) == (30, first, last)
    assert known.recipe["train.learning_rate"] == learning_rate


def test_the_misclassification_counts_add_up():
    five = other_figures()["5"]
    wrong = five["only_transformer_wrong"] + five["both_wrong"]
    assert round(1 - wrong / five["test_images"], 4) == five["accuracy"]


def test_a_run_that_did_what_the_homework_did_deviates_in_nothing(build):
    for model in references():
        assert deviations(build.run(model)) == ()


def test_a_constant_learning_rate_is_no_deviation(build):
    config = build.config(schedule={"name": "constant"})
    assert deviations(build.run(checkpoint=build.checkpoint(config=config))) == ()


@pytest.mark.parametrize(
    ("changes", "deviation"),
    [
        ({"epochs": 2}, Deviation("training epochs", "2", "30")),
        ({"batch_size": 256}, Deviation("batch size in training", "256", "128")),
        ({"optimizer": "sgd"}, Deviation("optimizer", "sgd", "adamw")),
        ({"learning_rate": 0.001}, Deviation("learning rate", "0.001", "0.005")),
        ({"weight_decay": 0.0}, Deviation("weight decay", "0", "0.01")),
        ({"label_smoothing": 0.1}, Deviation("label smoothing", "0.1", "0")),
        (
            {"ema_decay": 0.99},
            Deviation("share that averaged weights keep at a step", "0.99", "0"),
        ),
        (
            {"augment": {"alternating_flip": True}},
            Deviation("flips in turns", "on", "off"),
        ),
        ({"augment": {"cutout": 8}}, Deviation("pixels of cutout", "8", "0")),
        (
            {"augment": {"cutmix": 0.5}},
            Deviation("share of images with a box of another", "0.5", "0"),
        ),
        ({"initial_weights": "dirac"}, Deviation("initial weights", "dirac", "default")),
        (
            {"schedule": {"name": "cosine"}},
            Deviation("learning rate schedule", "cosine", "constant"),
        ),
        (
            {"schedule": {"name": "step", "step_size": 10}},
            Deviation("learning rate schedule", "a step every 10 epochs", "constant"),
        ),
        (
            {"augment": {"flip": False}},
            Deviation("random flips in training", "off", "on"),
        ),
        (
            {"augment": {"crop_padding": 2}},
            Deviation("pixels of padding before the random crop", "2", "4"),
        ),
        (
            {"precision": "bfloat16"},
            Deviation("precision in training", "bfloat16", "float32"),
        ),
        (
            {"protocol": "clean"},
            Deviation("reported epoch loss", "mean over images", "mean of batch means"),
        ),
        (
            {"protocol": "clean", "validation_fraction": 0.1},
            Deviation("share of training images held out", "0.1", "0"),
        ),
    ],
)
def test_each_change_of_the_recipe_is_one_deviation_with_both_values(build, changes, deviation):
    run = build.run(checkpoint=build.checkpoint(config=build.config(**changes)))
    assert deviation in deviations(run)


def test_a_part_of_the_training_images_and_arguments_of_the_network_deviate(build):
    config = build.config()
    config["data"]["subset"] = 1000
    config["model"]["args"] = {"norm": "group"}
    assert deviations(build.run(checkpoint=build.checkpoint(config=config))) == (
        Deviation("arguments of the network", "norm=group", "none"),
        Deviation("training images used", "1,000", "all"),
    )


def test_a_run_from_before_a_setting_existed_does_not_deviate_in_it(build):
    config = build.config()
    for key in ("ema_decay", "decoupled", "decay_norm_and_bias", "initial_weights"):
        del config["train"][key]
    for key in ("cutout", "cutmix"):
        del config["train"]["augment"][key]
    del config["data"]["subset"]
    assert deviations(build.run(checkpoint=build.checkpoint(config=config))) == ()


def test_test_images_as_they_are_deviate_from_the_homework(build):
    (found,) = deviations(build.run(evaluation_protocol="clean"))
    assert found.what == "evaluation"
    assert "flipped and cropped" in found.homework
    assert "flipped" not in found.here


def test_a_copy_of_cifar10_gets_the_figure_and_a_deviation(build):
    copy = build.data(title="CIFAR-10 (JPEG copy)", original=False)
    run = build.run(checkpoint=build.checkpoint(data=copy))
    assert reference_for(run.checkpoint).accuracy == 0.7627
    (found,) = deviations(run)
    assert found.what == "images"
    assert "JPEG copy" in found.here


def test_a_network_of_another_size_deviates(build):
    run = build.run(checkpoint=build.checkpoint(parameter_count=61_000))
    assert deviations(run) == (Deviation("network", "61,000 parameters", "61,130 parameters"),)


def test_a_part_of_the_test_images_deviates(build):
    row = build.row("torch", "unfolded", accuracy=build.accuracy(760, 1000))
    assert deviations(build.run(measurements=(row,))) == (
        Deviation("images scored", "1,000", "10,000"),
    )


def test_scoring_on_another_data_set_than_the_one_trained_on_deviates(build):
    other = build.data(title="CIFAR-10 (JPEG copy)", sha256=build.sha("9"))
    (found,) = deviations(build.run(data=other))
    assert (found.what, found.homework) == ("data set scored", "the one trained on")
    assert found.here.startswith("CIFAR-10 (JPEG copy)")


def test_another_data_set_gets_no_figure_and_a_reason(build):
    digits = build.data(
        title="scikit-learn digits", classes=build.digits, train_count=1437, test_count=360
    )
    run = build.run(checkpoint=build.checkpoint(data=digits))
    assert reference_for(run.checkpoint) is None
    assert deviations(run) == ()
    assert "compare two tasks" in reason_for_blank(run.checkpoint)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"test_count": 2000}, "instead of its 50,000 and 10,000"),
        ({"original": False, "title": "my pictures"}, "not known to be a copy"),
    ],
)
def test_what_is_not_cifar10_gets_no_figure(build, changes, reason):
    checkpoint = build.checkpoint(data=build.data(**changes))
    assert reference_for(checkpoint) is None
    assert reason in reason_for_blank(checkpoint)


def test_a_network_the_homework_does_not_have_gets_no_figure(build):
    checkpoint = build.checkpoint("mobile_net")
    assert reference_for(checkpoint) is None
    assert "mobile_net" in reason_for_blank(checkpoint)
