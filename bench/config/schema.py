"""A whole configuration: its sections, and what they say about each other."""

from typing import Any, Self

from pydantic import model_validator

from foldbench.bench.config.base import ConfigSection, Seed
from foldbench.bench.config.comparison import CompareSection, EvaluateSection
from foldbench.bench.config.data import DataSection
from foldbench.bench.config.export import ExportSection
from foldbench.bench.config.gate import GateSection
from foldbench.bench.config.model import ModelSection, TransferSection
from foldbench.bench.config.training import TrainSection


class Config(ConfigSection):
    """Everything `bench` needs to train, export and compare one network."""

    model: ModelSection
    data: DataSection = DataSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    export: ExportSection = ExportSection()
    compare: CompareSection = CompareSection()
    gate: GateSection = GateSection()
    seed: Seed = 0
    """Of the weights' initial values, the order of images and their augmentation."""
    transfer: TransferSection | None = None
    """Train just a linear layer on frozen features."""

    @model_validator(mode="after")
    def _frozen_features_are_taken_once(self) -> Self:
        if self.transfer is None:
            if self.data.preprocessing == "weights":
                raise ValueError("data.preprocessing 'weights' needs a transfer section")
            return self
        augment, schedule = self.train.augment, self.train.schedule.name
        if self.model.name != "pretrained":
            raise ValueError(f"transfer is for model pretrained, not {self.model.network!r}")
        if augment.flip or augment.crop_padding:
            raise ValueError(
                "features are taken once of each image as it is: with transfer, set train.augment "
                "to {flip: false, crop_padding: 0}"
            )
        if schedule != "constant":
            raise ValueError(f"transfer trains at a constant rate; schedule.name is {schedule!r}")
        without_meaning = {
            "data.subset": self.data.subset is not None,
            "train.augment.cutout": augment.cutout > 0,
            "train.augment.cutmix": augment.cutmix > 0,
            "train.ema_decay": self.train.ema_decay > 0,
            "train.micro_batches": self.train.micro_batches > 1,
            "train.initial_weights": self.train.initial_weights != "default",
        }
        if any(without_meaning.values()):
            named = ", ".join(path for path, given in without_meaning.items() if given)
            raise ValueError(f"{named} has no meaning with transfer: leave it at its default")
        return self


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, for editors."""
    result = Config.model_json_schema()
    result["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    result["title"] = "foldbench configuration"
    result["properties"]["extends"] = {
        "description": "Configuration(s) that this one builds on: names or paths beside this file.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    # A part to build on need not name a model.
    result.pop("required", None)
    result["$defs"]["ModelSection"].pop("required", None)
    return result
