"""What a checkpoint's card must hold, and the only place that says so.

Why: a card comes with the file, and the file may come from a stranger. Whoever serves, lists
or goes on from a checkpoint reads keys of its card; checked once, in one place, a wrong card
is one sentence instead of a traceback in the middle of an answer.
Unknown keys are allowed: cards carry more than is read here.
"""

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

__all__ = ["check_card"]

LARGEST = 1_000_000  # of any number that is read; NaN is refused with it

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Deviation = Annotated[float, Meta(ge=1e-6, le=LARGEST)]  # smaller ones are 0 in single precision
Temperature = Annotated[float, Meta(ge=1e-3, le=1e3)]  # beyond, answers are 0, 1 or no numbers
Weight = Annotated[float, Meta(ge=0, le=LARGEST)]
Share = Annotated[float, Meta(gt=0, lt=10)]  # of a crop's side
Part = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class PreprocessPart(Struct, forbid_unknown_fields=True):
    """Arguments of `expression.preprocessing.Preprocess`."""

    size: Annotated[int, Meta(ge=1, le=1024)]
    channels: Literal[1, 3]
    mode: Literal["L", "RGB"] = "RGB"
    mean: list[Number] = field(default_factory=lambda: [0.5])
    std: list[Deviation] = field(default_factory=lambda: [0.5])
    resize: Literal["squash", "crop"] = "squash"

    def __post_init__(self) -> None:
        if self.mode == "RGB" and self.channels != 3:
            raise ValueError("1 channel does not fit mode RGB")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name} has {len(values)} values for {self.channels} channels")


class CropPart(Struct, forbid_unknown_fields=True):
    """Arguments of `expression.faces.CropRule`."""

    centre_x: Share
    centre_y: Share
    size: Share
    measured: Count
    detector: Name
    upright_from: Annotated[float, Meta(ge=0, le=360)] = 15.0


class DataPart(Struct):
    """The data set that trained the network, and those beside it; it may carry more."""

    name: Name
    fingerprint: Name
    further: list["DataPart"] = []


class FiguresPart(Struct):
    """How many of a split's pictures were answered right; it may carry more."""

    k: Count
    n: Annotated[int, Meta(ge=1)]
    majority: Part = 0.0  # accuracy of the most frequent class
    macro_f1: Part = 0.0

    def __post_init__(self) -> None:
        if self.k > self.n:
            raise ValueError(f"k: {self.k} of {self.n} pictures right")


class Card(Struct):
    """The keys of a card that the project reads."""

    class_names: Annotated[list[Name], Meta(min_length=1, max_length=1000)]
    system: Name
    preprocess: PreprocessPart
    data: DataPart
    system_args: dict[str, Any] = {}
    temperature: Temperature = 1.0
    min_confidence: Annotated[float, Meta(ge=0, lt=1)] = 0.0  # answers below it are "not sure"
    calibration: dict[str, Any] = {}  # where the two above were fitted, and what they are worth
    choice: dict[str, Any] = {}  # by which rule the heads' weights in the answer were chosen
    crop: str | CropPart = ""  # cards without a measured one carry words
    validation: FiguresPart | None = None
    test: FiguresPart | None = None
    heads: dict[Name, Weight] = field(default_factory=lambda: {"label": 1.0})
    priors: dict[Name, list[Part]] = {}  # of each head: the share of each class in its targets
    prior_correction: Annotated[float, Meta(ge=0, le=LARGEST)] = 0.0
    epoch: Count = 0
    command: str = ""
    recipe: dict[str, Any] = {}
    history: dict[str, list[Any]] = {}
    versions: dict[str, Any] = {}
    learnt_from: dict[str, str] = {}
    stages: list[dict[str, Any]] = []

    def __post_init__(self) -> None:
        names = self.class_names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"class_names: {', '.join(twice)} stands there twice")
        if not sum(self.heads.values()) > 0:
            raise ValueError("heads: none of them has a weight above 0 in the answer")
        for head, shares in self.priors.items():
            if len(shares) != len(names):
                raise ValueError(f"priors.{head} has {len(shares)} shares for {len(names)} classes")
        for name, value in self.system_args.items():
            check_argument(name, value)


def check_argument(name: str, value: Any) -> None:
    """A network's argument: a number, a word, a flag or a short list of them."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        number = isinstance(item, int | float) and abs(item) <= LARGEST  # NaN is not
        word = item is None or (isinstance(item, str) and len(item) <= 200)
        if not (number or word) or len(items) > 64:
            found = reprlib.repr(value)
            raise ValueError(f"system_args.{name} is {found}, no number or word of that size")


def check_card(card: Any, path: Path | str) -> dict[str, Any]:
    """The card itself. Raises ValueError, one sentence: file, key, and what was found there."""
    try:
        msgspec.convert(card, Card)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(
            f"{path} does not fit this version of the project ({fault(card, str(error))})"
        ) from None
    return card


def shortened(words: str, most: int = 200) -> str:
    """At most so many characters: what a stranger wrote may be a megabyte."""
    return words if len(words) <= most else f"{words[: most - 1]}…"


def fault(card: Any, message: str) -> str:
    """msgspec's "Expected `int` >= 1 - at `$.test.n`" → "test.n: expected `int` >= 1, found 0"."""
    what, _, place = message.partition(" - at `$")
    if missing := re.fullmatch("Object missing required field `(.+)`", what):
        return f"{place.rstrip('`').lstrip('.')}.{missing[1]} is missing".lstrip(".")
    keys = re.findall(r"[^.\[\]]+", place.rstrip("`"))
    found = card
    for key in keys:
        if isinstance(found, list) and key.isdigit():
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
    what = shortened(what[:1].lower() + what[1:])
    if not keys and isinstance(card, dict):  # a rule of the whole card, which says what it found
        return what
    return f"{'.'.join(keys) or 'card'}: {what}, found {reprlib.repr(found)}"
