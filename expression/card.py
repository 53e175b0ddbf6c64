"""What a checkpoint's card must hold, and the only place that says so.

Why: a card comes with the file, and the file may come from a stranger. Whoever serves, lists
or goes on from a checkpoint reads keys of its card; checked once, in one place, a wrong card
is one sentence instead of a traceback in the middle of an answer.
Unknown keys are allowed: cards carry more than is read here.
"""

import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

__all__ = ["check_card"]

LARGEST = 1_000_000  # of a number among a network's arguments
TOLD = 8  # faults in one sentence, at most

Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"\S")]
Share = Annotated[float, Field(gt=0, lt=10)]  # of a crop's side
Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    """Exact types, finite numbers, no other keys: what is handed on as arguments."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class PreprocessPart(Part):
    """Arguments of `expression.preprocessing.Preprocess`."""

    size: int = Field(ge=1, le=1024)
    channels: Literal[1, 3]
    mode: Literal["L", "RGB"] = "RGB"
    mean: list[float] = [0.5]
    std: list[Positive] = [0.5]
    resize: Literal["squash", "crop"] = "squash"

    @model_validator(mode="after")
    def fits(self) -> "PreprocessPart":
        if self.mode == "RGB" and self.channels != 3:
            raise ValueError("1 channel does not fit mode RGB")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name} has {len(values)} values for {self.channels} channels")
        return self


class CropPart(Part):
    """Arguments of `expression.faces.CropRule`."""

    centre_x: Share
    centre_y: Share
    size: Share
    measured: int = Field(ge=0)
    detector: Name
    upright_from: float = Field(default=15.0, ge=0, le=360)


class DataPart(Part):
    """The data set that trained the network; it may carry more."""

    model_config = ConfigDict(extra="allow")
    name: Name
    fingerprint: Name


class FiguresPart(Part):
    """How many of a split's pictures were answered right; it may carry more."""

    model_config = ConfigDict(extra="allow")
    k: int = Field(ge=0)
    n: int = Field(ge=1)
    majority: float = Field(default=0.0, ge=0, le=1)  # accuracy of the most frequent class
    macro_f1: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def fits(self) -> "FiguresPart":
        if self.k > self.n:
            raise ValueError(f"{self.k} of {self.n} pictures right")
        return self


def unique(names: list[str]) -> list[str]:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} stands there twice")
    return names


def bounded(arguments: dict[str, Any]) -> dict[str, Any]:
    """A network's arguments: numbers, words, flags and short lists of them."""
    for name, value in arguments.items():
        items = value if isinstance(value, list) else [value]
        for item in items:
            number = isinstance(item, int | float) and abs(item) <= LARGEST  # NaN is not
            word = item is None or (isinstance(item, str) and len(item) <= 200)
            if not (number or word) or len(items) > 64:
                raise ValueError(f"{name} is {reprlib.repr(value)}, no number or word of that size")
    return arguments


Crop = Annotated[
    Annotated[str, Tag("words")] | Annotated[CropPart, Tag("rule")],
    Discriminator(lambda value: "words" if isinstance(value, str) else "rule"),
]


class Card(BaseModel):
    """The keys of a card that the project reads."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    class_names: Annotated[list[Name], Field(min_length=1, max_length=1000), AfterValidator(unique)]
    system: Name
    preprocess: PreprocessPart
    data: DataPart
    system_args: Annotated[dict[str, Any], AfterValidator(bounded)] = {}
    temperature: float = Field(default=1.0, gt=0)
    min_confidence: float = Field(default=0.0, ge=0, lt=1)  # answers below it are "not sure"
    calibration: dict[str, Any] = {}  # where the two above were fitted, and what they are worth
    choice: dict[str, Any] = {}  # by which rule the heads' weights in the answer were chosen
    crop: Crop = ""  # cards without a measured one carry words
    validation: FiguresPart | None = None
    test: FiguresPart | None = None
    heads: dict[Name, float] = {"label": 1.0}
    priors: dict[Name, list[float]] = {}
    prior_correction: float = Field(default=0.0, ge=0)
    epoch: int = Field(default=0, ge=0)
    command: str = ""
    recipe: dict[str, Any] = {}
    history: dict[str, list[Any]] = {}
    versions: dict[str, Any] = {}
    learnt_from: dict[str, str] = {}
    stages: list[dict[str, Any]] = []


def check_card(card: Any, path: Path | str) -> dict[str, Any]:
    """The card itself. Raises ValueError, one sentence: file, keys, and what was found there."""
    try:
        Card.model_validate(card)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        told = "; ".join(fault(entry) for entry in faults[:TOLD])
        more = f" and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
        raise ValueError(
            f"{path} does not fit this version of the project ({told}{more})"
        ) from None
    return card


def fault(entry: Any) -> str:
    """One of pydantic's errors in words."""
    key = ".".join(str(part) for part in entry["loc"] if part not in ("words", "rule")) or "card"
    if entry["type"] == "missing":
        return f"{key} is missing"
    reason = entry["msg"].removeprefix("Value error, ")
    return f"{key}: {reason}, found {reprlib.repr(entry['input'])}"
