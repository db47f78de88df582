"""What a network says about images: the text and the JSON of `bench predict`."""

from collections.abc import Iterator, Sequence
from typing import Any

from foldbench.bench import units
from foldbench.bench.predict.networks import LoadedNetwork
from foldbench.bench.predict.prediction import Answer


def render_network(network: LoadedNetwork) -> str:
    """Return which network answers and how it sees images, ending in a newline."""
    preprocessing = network.preprocessing
    _, tall, wide = preprocessing.input_shape
    size, resize = f"{tall}x{wide}", preprocessing.resize
    if resize.stretch:
        how = f"stretched to {size}"
    elif resize.shorter_side is None:
        how = f"scaled to cover {size}"
    else:
        how = f"shorter side {resize.shorter_side}, centre {size}"
    return f"{network.name} ({network.weights}); images: {how}, {resize.interpolation}\n"


def render_answer(answer: Answer) -> str:
    """Return what each backend says about one image, ending in a newline."""
    return f"{answer.image}\n" + "".join(f"  {line}\n" for line in _lines(answer))


def answers_json(network: LoadedNetwork, answers: Sequence[Answer]) -> dict[str, Any]:
    """Return every answer as JSON types, unrounded."""
    return {
        "network": network.name,
        "weights": network.weights,
        "preprocessing": network.preprocessing.model_dump(mode="json"),
        "images": [
            {
                "image": str(answer.image),
                "reason": answer.reason,
                "max_difference": answer.max_difference,
                "predictions": [
                    {
                        "backend": prediction.backend,
                        "reason": prediction.reason,
                        "top": [
                            {"class": one.class_name, "probability": one.probability}
                            for one in prediction.ranked
                        ],
                    }
                    for prediction in answer.predictions
                ],
            }
            for answer in answers
        ],
    }


def _lines(answer: Answer) -> Iterator[str]:
    if answer.reason:
        yield f"not read: {answer.reason}"
    for prediction in answer.predictions:
        if prediction.reason:
            yield f"{prediction.backend}: did not run: {prediction.reason}"
            continue
        yield prediction.backend
        for one in prediction.ranked:
            yield f"  {units.share(one.probability)}  {one.class_name}"
    if answer.max_difference is not None:
        yield f"largest difference of a probability: {units.error(answer.max_difference)}"
