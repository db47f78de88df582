"""What every stored record is: immutable, and strict about its fields."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """An immutable record; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


SCHEMA_VERSION: Literal[1] = 1
Protocol = Literal["homework", "clean"]
Variant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.+-]*$")]
GIVEN = "given"
"""The variant of an .onnx file as it was given."""
PLAIN = "plain"
"""The variant that torch.onnx.export gives by itself."""
FLOAT64 = "float64"
"""The reference where answers are held against the network in float64, as those of a bundle."""
Target = Literal["cpu", "openvino", "cuda", "tensorrt", "host"]
Folder = Literal["foldbench", "exporter"]
Status = Literal["ok", "failed", "skipped"]
Role = Literal["contender", "again", "one_thread"]
