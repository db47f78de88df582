"""What every stored record is: immutable, and strict about its fields."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """An immutable record; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
