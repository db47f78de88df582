"""The homework's figures, and when a run may stand next to them."""

import pytest

from foldbench.reports.rows.homework import (
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
    ("changes", "sentence"),
    [
        ({"epochs": 2}, "Training epochs: here 2; in the homework 30."),
        ({"batch_size": 256}, "Batch size in training: here 256; in the homework 128."),
        ({"optimizer": "sgd"}, "Optimizer: here sgd; in the homework adamw."),
        ({"learning_rate": 0.001}, "Learning rate: here 0.001; in the homework 0.005."),
        ({"weight_decay": 0.0}, "Weight decay: here 0; in the homework 0.01."),
        ({"label_smoothing": 0.1}, "Label smoothing: here 0.1; in the homework 0."),
        (
            {"ema_decay": 0.99},
            "Share that averaged weights keep at a step: here 0.99; in the homework 0.",
        ),
        (
            {"augment": {"alternating_flip": True}},
            "Flips in turns: here on; in the homework off.",
        ),
        ({"augment": {"cutout": 8}}, "Pixels of cutout: here 8; in the homework 0."),
        (
            {"augment": {"cutmix": 0.5}},
            "Share of images with a box of another: here 0.5; in the homework 0.",
        ),
        ({"initial_weights": "dirac"}, "Initial weights: here dirac; in the homework default."),
        (
            {"schedule": {"name": "cosine"}},
            "Learning rate schedule: here cosine; in the homework constant.",
        ),
        (
            {"schedule": {"name": "step", "step_size": 10}},
            "Learning rate schedule: here a step every 10 epochs; in the homework constant.",
        ),
        (
            {"augment": {"flip": False}},
            "Random flips in training: here off; in the homework on.",
        ),
        (
            {"augment": {"crop_padding": 2}},
            "Pixels of padding before the random crop: here 2; in the homework 4.",
        ),
        (
            {"precision": "bfloat16"},
            "Precision in training: here bfloat16; in the homework float32.",
        ),
        (
            {"protocol": "clean"},
            "Reported epoch loss: here mean over images; in the homework mean of batch means.",
        ),
        (
            {"protocol": "clean", "validation_fraction": 0.1},
            "Share of training images held out: here 0.1; in the homework 0.",
        ),
    ],
)
def test_each_change_of_the_recipe_is_one_sentence_with_both_values(build, changes, sentence):
    run = build.run(checkpoint=build.checkpoint(config=build.config(**changes)))
    assert sentence in deviations(run)


def test_a_part_of_the_training_images_and_arguments_of_the_network_deviate(build):
    config = build.config()
    config["data"]["subset"] = 1000
    config["model"]["args"] = {"norm": "group"}
    assert deviations(build.run(checkpoint=build.checkpoint(config=config))) == (
        "Arguments of the network: here norm=group; in the homework none.",
        "Training images used: here 1,000; in the homework all.",
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
    (sentence,) = deviations(build.run(evaluation_protocol="clean"))
    assert sentence == (
        "Evaluation: here test images as they are; "
        "in the homework test images flipped and cropped at random."
    )


def test_a_copy_of_cifar10_gets_the_figure_and_a_deviation(build):
    copy = build.data(title="CIFAR-10 (JPEG copy)", original=False)
    run = build.run(checkpoint=build.checkpoint(data=copy))
    assert reference_for(run.checkpoint).accuracy == 0.7627
    assert deviations(run) == (
        "Images: here CIFAR-10 (JPEG copy), not the original; "
        "in the homework the original CIFAR-10 files.",
    )


def test_a_network_of_another_size_deviates(build):
    run = build.run(checkpoint=build.checkpoint(parameter_count=61_000))
    assert deviations(run) == (
        "Network: here 61,000 parameters; in the homework 61,130 parameters.",
    )


def test_a_part_of_the_test_images_deviates(build):
    row = build.row("torch", "unfolded", accuracy=build.accuracy(760, 1000))
    assert deviations(build.run(measurements=(row,))) == (
        "Images scored: here 1,000; in the homework 10,000.",
    )


def test_scoring_on_another_data_set_than_the_one_trained_on_deviates(build):
    other = build.data(title="CIFAR-10 (JPEG copy)", sha256=build.sha("9"))
    (sentence,) = deviations(build.run(data=other))
    assert sentence.startswith("Data set scored: here CIFAR-10 (JPEG copy), other images than")


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
    assert "No homework figure for mobile_net" in reason_for_blank(checkpoint)
