"""The options of `experiments.py`: a dataclass a command, a recipe's fields among them.

`lab/parsing.py` has tyro make the command line of them: an option's name, type, choices and
default are the field's, and the sentence below it is the help text.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from augment import Augment
from lab.recipe import EarlyStopping, Learning, Pictures, Schedule, Start
from lab.recipes import RECIPES

__all__ = ["COMMANDS", "GROUPS", "Augmentation", "Average", "Calibrate", "Command", "Compare",
           "Data", "Ensemble", "Evaluate", "Explain", "Flagship", "LabelNoise", "Matrix", "Pack",
           "Publish", "Robustness", "Settings", "Train"]  # fmt: skip

Flag = FlagCreatePairsOff[bool]
File = Annotated[Path | None, arg(metavar="PATH")]
Text = Annotated[str | None, arg(metavar="TEXT")]
Checkpoints = Annotated[Positional[tuple[Path, ...]], arg(metavar="CHECKPOINT ...")]
Given = Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=VALUE")]
Further = Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=PATH")]
SYSTEMS = f"Any of {', '.join(RECIPES)}."
GROUPS = (Pictures, Learning, Schedule, EarlyStopping, Start)  # of Recipe's fields


@dataclass(frozen=True)
class Data:
    """Which data, and where the work is done."""

    data: Text = None
    """Folder, CSV, .npz, hub id, kaggle:owner/name, synthetic; None: EXPRESSION_DATA or hub."""
    name: Text = None
    """The data set's name in file names; None: the folder's."""
    classes: Literal[0, 4] = 0
    """4 merges FER2013's seven classes to four."""
    votes: Text = None
    """FER+'s file of crowd votes, for FER2013: a path, or a web address, fetched once."""
    also: Further = ()
    """A further data set, as --data or NAME=DATA; may be repeated. In training it gets a head of
    its own, called NAME; label=DATA trains the label head with it."""
    cleaned_labels: File = None
    """A file of cleaned labels, as label_noise writes it: it replaces training labels."""
    streaming: Flag = False
    """Read Parquet files as a stream in each epoch, for data larger than memory (docs/data.md)."""
    strict: Flag = False
    """Stop at the first row that cannot be used, instead of leaving it out."""
    device: Annotated[str, arg(metavar="DEVICE")] = field(
        default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu"
    )
    """Where networks run: cpu, cuda, cuda:1, mps."""
    out: File = None
    """Folder for checkpoints/, results/ and runs/; None: this one, with --quick out/quick."""
    quick: Flag = False
    """Few pictures and epochs: a trial, not a result."""

    @property
    def home(self) -> Path:
        """The folder that `out` means."""
        return self.out or Path("out/quick" if self.quick else ".")


@dataclass(frozen=True)
class Augmentation(Augment):
    """Random changes of the training pictures."""

    augment: bool = True
    """Whether training pictures are changed at all."""
    final_unaugmented_epochs: int = 0
    """The last epochs show pictures at full size, neither turned nor moved: as sharp as in use."""


@dataclass(frozen=True)
class Settings(Data):
    """Which data and which recipe."""

    seed: int = 0
    """The first seed."""
    final: Flag = False
    """Open the test split too, and log that in results/test_openings.jsonl; without it only
    validation is measured."""
    arg: Given = ()
    """An argument of the network itself, such as stem=3x3; may be repeated."""
    pictures: Pictures = Pictures()
    augmentation: Augmentation = Augmentation()
    learning: Learning = Learning()
    schedule: Schedule = Schedule()
    early_stopping: EarlyStopping = EarlyStopping()
    start_and_teachers: Start = Start()


@dataclass(frozen=True)
class Train(Settings):
    """Train systems, then evaluate them."""

    systems: Annotated[Positional[tuple[str, ...]], arg(metavar="SYSTEM ...", help=SYSTEMS)] = ()
    all: Flag = False
    """Every system; then compare and explain."""
    seeds: int = 1
    """How many runs of each system, each with the next seed."""
    resume: Flag = False
    """Go on with interrupted runs; what is finished is not trained again."""


@dataclass(frozen=True)
class Flagship(Settings):
    """Train several seeds, export the best on validation; finished seeds are kept."""

    system: Annotated[Positional[str], arg(metavar="SYSTEM", help=SYSTEMS)] = "expression"
    seeds: int = 5
    """How many runs, each with the next seed."""
    to: Text = None
    """Name of the exported checkpoint; None: SYSTEM-DATA. No file is replaced."""


@dataclass(frozen=True)
class Evaluate(Data):
    """Measure checkpoints and draw where they look."""

    checkpoints: Checkpoints = ()
    """Checkpoint files."""
    shifts: Flag = False
    """Also tta18: test-time augmentation, 18 views (flip × 9 shifts), averaged."""
    final: Flag = False
    """Open the test split too, and log that in results/test_openings.jsonl; without it only
    validation is measured."""


@dataclass(frozen=True)
class Matrix(Data):
    """Measure checkpoints on several data sets, one view, for results/MATRIX.md. With --votes also
    against the crowd's majority; each further data set is given with --also."""

    checkpoints: Checkpoints = ()
    """Checkpoint files."""
    final: Flag = False
    """Open the test splits too, and log that in results/test_openings.jsonl; without it only
    validation is measured."""


@dataclass(frozen=True)
class Ensemble(Data):
    """Measure checkpoints together: their probabilities are averaged."""

    checkpoints: Checkpoints = ()
    """Checkpoint files."""
    shifts: Flag = False
    """Each with tta18, test-time augmentation, instead of picture and mirror image."""
    final: Flag = False
    """Open the test split too, and log that in results/test_openings.jsonl; without it only
    validation is measured."""


@dataclass(frozen=True)
class Average(Data):
    """Average the weights of several trainings from one start."""

    checkpoints: Checkpoints = ()
    """Two checkpoint files or more; --data and --also are those that all of them trained on."""
    shares: tuple[float, ...] = ()
    """The share of each in the mean, such as 0.6 0.4; none: the same for all."""
    to: Text = None
    """Name of the new checkpoint; None: NAME-average. No file is replaced."""


@dataclass(frozen=True)
class Calibrate(Data):
    """Choose how a network's heads make its answer, calibrate it, and write that as a new one."""

    checkpoints: Checkpoints = ()
    """The checkpoint file; it is not changed. Needs --votes; --also adds Muxspace's recall."""
    to: Text = None
    """Name of the new checkpoint; None: SYSTEM_calibrated-DATA. No file is replaced."""


@dataclass(frozen=True)
class Explain(Data):
    """Draw where checkpoints look: Grad-CAM, attention maps."""

    checkpoints: Checkpoints = ()
    """Checkpoint files."""


@dataclass(frozen=True)
class Robustness(Data):
    """Measure checkpoints on blurred, noisy, dark, covered and badly cut faces."""

    checkpoints: Checkpoints = ()
    """Checkpoint files."""
    limit: int = 0
    """How many faces of each split, at random but the same for every network; 0: all."""
    final: Flag = False
    """Open the test split too, and log that in results/test_openings.jsonl; without it only
    validation is measured."""


@dataclass(frozen=True)
class LabelNoise(Data):
    """Compare labels with a crowd's votes; list those that crowd and networks contradict."""

    checkpoints: Checkpoints = ()
    """Checkpoint files; without any, no label is listed."""
    head: Literal["answer", "label", "votes"] = "answer"
    """What a network's word is: its one answer, or one of its heads."""


@dataclass(frozen=True)
class Pack(Data):
    """Write a data set, decoded, to one file, for a machine without `datasets`, or with --shards to
    a folder that is never read whole, for data larger than memory."""

    to: File = None
    """The file, or the folder of shards; None: .expression_cache/NAME.npz, NAME_shards."""
    shards: Flag = False
    """Write a folder of mapped files; --data FOLDER trains on it."""
    size: int = 48
    """Side of the pictures, in pixels."""
    mode: Literal["L", "RGB"] = "L"
    """Colour mode of the pictures; RGB with --shards alone."""


@dataclass(frozen=True)
class Crop(Data):
    """Cut the faces out of whole photos, as a network is shown them in use, into image folders to
    train on."""

    to: File = None
    """The new folder; None: NAME_faces."""
    like: Text = None
    """The network whose crop is meant: a file, or a name; None: the one that is served."""


@dataclass(frozen=True)
class Compare:
    """Write results/RESULTS.md from the JSON files there."""

    out: Annotated[Path, arg(metavar="PATH")] = Path()
    """Folder that holds results/."""


@dataclass(frozen=True)
class Publish:
    """Upload a checkpoint, its .onnx and its card, and the page, to the Hugging Face hub. Without
    --yes it only says what would be uploaded."""

    checkpoint: Annotated[Positional[str], arg(metavar="NAME")] = ""
    """The checkpoint: a file, or a name in checkpoints/ such as expression."""
    to: Annotated[str | None, arg(metavar="OWNER/NAME")] = None
    """The repository of the network; it is made where it does not exist."""
    space: Annotated[str | None, arg(metavar="OWNER/NAME")] = None
    """A static Space for the page in web/dist, which `make web` builds."""
    yes: Flag = False
    """Really upload, with the token of HF_TOKEN or `hf auth login`."""


Command = (
    Train
    | Flagship
    | Evaluate
    | Matrix
    | Ensemble
    | Average
    | Calibrate
    | Explain
    | Robustness
    | LabelNoise
    | Compare
    | Pack
    | Crop
    | Publish
)
COMMANDS: dict[str, type] = {
    "train": Train,
    "flagship": Flagship,
    "evaluate": Evaluate,
    "matrix": Matrix,
    "ensemble": Ensemble,
    "average": Average,
    "calibrate": Calibrate,
    "explain": Explain,
    "robustness": Robustness,
    "label_noise": LabelNoise,
    "compare": Compare,
    "pack": Pack,
    "crop": Crop,
    "publish": Publish,
}
