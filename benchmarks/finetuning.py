"""What a folder of one's own buys: `train finetune` with few faces, measured on many others.

    python -m benchmarks.finetuning --data path/to/muxspace
    python -m benchmarks.finetuning ... --quick     does it run? two sizes, one seed

The folder is Muxspace, press photos; the start is `expression-fer2013`, which has never seen one of
them. Some training faces of each class are drawn at random, a tenth of them for validation as in a
folder of that size, and the recipe is that of `experiments.py train finetune`. Measured on
Muxspace's whole validation split, which shows other people. Once the classes keep their names, so
that the network knows them; once they have names that nobody knows, and must be learnt anew.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import ClassLabel, DatasetDict

from benchmarks import harness, subjects
from benchmarks.budget_summary import plus_minus, spread

if TYPE_CHECKING:
    from lab.data import Faces
    from lab.recipe import Recipe

__all__ = ["main", "table"]

START = "checkpoints/expression-fer2013.safetensors"
PER_CLASS, QUICK_PER_CLASS = (10, 30, 100), (2, 3)
LEFT_OUT = ("disgust", "fear")  # they have few faces
WAYS = {"known": "classes that the network knows", "new": "classes of other names"}
HEADS = ("", "Faces of a class", "Training faces", "Accuracy (%)", "Mean recall (%)")


def without(faces: "Faces", left_out: Sequence[str]) -> "Faces":
    """The data set without these classes and their faces."""
    names = [name for name in faces.class_names if name not in left_out]
    splits = DatasetDict()
    for split, rows in faces.splits.items():
        labels = [faces.class_names[index] for index in rows["label"]]
        kept = [row for row, name in enumerate(labels) if name in names]
        splits[split] = rows.select(kept).remove_columns("label").add_column(
            "label", [names.index(labels[row]) for row in kept], feature=ClassLabel(names=names)
        )  # fmt: skip
    return subjects.Faces(splits, faces.name, subjects.fingerprint(splits))


@dataclass(frozen=True)
class Study:
    """What all runs share."""

    faces: "Faces"  # that folders are drawn from
    recipe: "Recipe"
    device: torch.device

    def folder(self, per_class: int, seed: int, known: bool) -> "Faces":
        """A data set as small as somebody's folder; its test split is the whole validation split.

        With `known` false every class has a name that no network knows.
        """
        rng, names = np.random.default_rng(seed), self.faces.class_names
        labels, rows = self.faces.labels("train").numpy(), self.faces.splits["train"]
        train: list[int] = []
        validation: list[int] = []
        for index in range(len(names)):
            drawn = rng.permutation(np.flatnonzero(labels == index))[:per_class].tolist()
            count = max(1, round(len(drawn) / 10))
            validation += drawn[:count]
            train += drawn[count:]
        picked = {"train": rows.select(sorted(train)),
                  "validation": rows.select(sorted(validation)),
                  "test": self.faces.splits["validation"]}  # fmt: skip
        if not known:
            own = ClassLabel(names=[f"own {name}" for name in names])
            picked = {split: part.cast_column("label", own) for split, part in picked.items()}
        splits = DatasetDict(picked)
        return subjects.Faces(splits, f"folder-{per_class}-{seed}", subjects.fingerprint(splits))

    def run(self, per_class: int, seed: int, way: str) -> dict[str, Any]:
        """Fine-tune on such a folder and measure: {accuracy, recall, faces, …}."""
        folder = self.folder(per_class, seed, way == "known")
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch)
            run = subjects.Run("finetune", self.recipe, folder, seed, self.device, out / "run", out,
                               "python -m benchmarks.finetuning")  # fmt: skip
            rule = subjects.preprocess(self.recipe)
            with subjects.TensorBoardLog(out / "board", folder.class_names, rule) as board:
                checkpoint = subjects.train_network(run, board)
            told = measured(checkpoint, folder, self.device)
        print(f"{per_class} of a class, seed {seed}, {WAYS[way]}: {told}", flush=True)
        return {"per_class": per_class, "seed": seed, "way": way,
                "faces": len(folder.labels("train")), **told}  # fmt: skip


def measured(checkpoint: Path, folder: "Faces", device: torch.device) -> dict[str, Any]:
    """{accuracy, recall} of a network on the test split, by the network's own classes."""
    model, card, rule = subjects.load_model(checkpoint, device)
    known = folder.with_classes(card["class_names"], str(checkpoint), subset=True)
    batches = subjects.Batches(known.decoded(rule)["test"], 256, device=device)
    logits, labels = subjects.collect(model, batches, device)
    told = subjects.evaluate(logits, labels, card["class_names"])
    recalls = [row["recall"] for row in told.per_class().values() if row["support"]]
    return {"accuracy": told.accuracy, "recall": mean(recalls)}


# --- the table ---


def table(told: Mapping[str, Any]) -> str:
    """The start as it is, then each way and size, means over the seeds."""
    rows = [["the network as it is", "–", "–", *cells([{**told["start"], "seed": 0}])]]
    for way, title in WAYS.items():
        for per_class in told["settings"]["per_class"]:
            runs = [run for run in told["runs"]
                    if (run["way"], run["per_class"]) == (way, per_class)]  # fmt: skip
            if runs:
                faces = f"{mean(run['faces'] for run in runs):.0f}"
                rows.append([title, f"{per_class}", faces, *cells(runs)])
    return harness.markdown_table(HEADS, rows)


def cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Accuracy and recall of some runs, in percent, as '61.2 ± 1.4'."""
    return [plus_minus(spread({run["seed"]: run[key] for run in runs}), 100, 1)
            for key in ("accuracy", "recall")]  # fmt: skip


# --- the command line ---


def options() -> argparse.ArgumentParser:
    parser = harness.parser("finetuning", __doc__, "Muxspace: its clone, tar or zip")
    parser.set_defaults(threads=1)
    add = parser.add_argument
    add("--seeds", type=harness.positive, default=3, help="default: 3")
    add("--quick", action="store_true", help="does it run? To out/quick-finetuning.json")
    return parser


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = options()
    args = harness.parse(parser, arguments)
    sizes = QUICK_PER_CLASS if args.quick else PER_CLASS
    out = harness.output(parser, args, Path("out/quick-finetuning.json"))
    faces = without(subjects.read(args.data), LEFT_OUT)
    recipe = subjects.settled(
        "finetune", replace(subjects.RECIPES["finetune"], init_from=START), args.data
    )
    study = Study(faces, replace(recipe, precision="float32"), args.device)
    about = harness.record(
        "finetuning", arguments, args.device, per_class=list(sizes), start=START,
        recipe=study.recipe.as_dict(), data=faces.name, fingerprint=faces.fingerprint,
        judged_on=len(faces.labels("validation")), left_out=list(LEFT_OUT),
    )  # fmt: skip
    whole = study.folder(sizes[0], 0, known=True)
    told = {**about, "start": measured(harness.ROOT / START, whole, args.device), "runs": []}
    for seed in range(1 if args.quick else args.seeds):
        for per_class in sizes:
            for way in WAYS:
                told["runs"].append(study.run(per_class, seed, way))
                harness.write_json(out, told)
    print(f"{table(told)}\nwrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
