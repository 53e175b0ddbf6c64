"""Write benchmarks/README.md from the JSON files beside it: python benchmarks/report.py"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

from benchmarks import against_fer, loop, speedrun, step, trainers, wanted
from benchmarks.detectors import crop_table, detector_table
from benchmarks.machine import described
from benchmarks.serving import Timing, table

__all__ = ["markdown", "quoted"]

QUOTED = ("expression-fer2013", "expression_small-fer2013")  # what the README tells of first
OTHERS = {
    "train_loop-plain-0": "the plain way",
    "lightning-plain-2": "Lightning",
    "transformers-plain-2": "transformers",
    "fastai-plain-2": "fastai",
}
HERE = Path(__file__).resolve().parent


def read(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def timed(result: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's row of serving.json with its timings as such again."""
    revived = {
        engine: result[engine] and {k: Timing(**v) for k, v in result[engine].items()}
        for engine in ("torch", "onnx")
    }
    return {**result, **revived}


def app_table(told: dict[str, Any]) -> str:
    rows = ["| Door | What | Median (spread of three runs) | Wanted |", "|---|---|---|---|"]
    for name in ("found and named, once started", "each further picture", "whole command"):
        row = told["folder"][name]
        spread = f"{min(row['runs']):.0f}–{max(row['runs']):.0f}"
        wanted = "–" if name == "found and named, once started" else "more than 50"
        rows.append(
            f"| `predict.py` on a folder of {told['folder']['pictures']} pictures, 350 × 350 | "
            f"{name} | {row['median']:.0f} pictures/s ({spread}) | {wanted} |"
        )
    mirror = told["mirror"]
    rows += [
        f"| `demo.py`, Mirror, in a browser | answers on the page | "
        f"{mirror['answers a second']:.1f} a second | at least 10 |",
        f"| the same | from a change before the camera to the page's answer | "
        f"{mirror['age in ms']:.0f} ms (longest {mirror['longest age in ms']:.0f}) | – |",
    ]
    return "\n".join(rows)


def training() -> str:
    """The part about the speed of training."""
    stepped, compared, grown = read("step"), read("trainers"), read("loop")["growth"]
    looped = read("loop")["loop"]
    shared = compared["settings"]
    epochs = max(len(row.get("rates", ())) for row in compared["rows"])
    rounds = f"{epochs // shared['runs']} round{'s' * (epochs > shared['runs'])}"
    return f"""## Training: the loop beside its limit

`python benchmarks/loop.py --data path/to/fer2013` ({described(looped)}). The bare step is
forward, loss, backward and optimizer on a batch already in place, in channels_last; the whole loop
takes its batches from `Batches`, changes every picture, counts and checks.

{loop.loop_table(looped["cases"])}

The same with `--growth` ({described(grown)}), TinyVGG on FER2013's training pictures repeated,
equally many steps at every size. Decoded pictures lie in
a mapped file; memory of its own is what the process cannot give back.

{loop.growth_table(grown["sizes"])}

## Training: beside what people use

`python benchmarks/trainers.py --data path/to/fer2013` ({described(compared)}). TinyVGG,
{shared["size"]} px, {shared["pictures"]:,} pictures, batches of {shared["batch_size"]}, AdamW.
"Plain" is a DataLoader that opens and changes each picture by itself; "Batches" is this
repository's.

{trainers.table(compared)}

Medians of {epochs} epochs a row, in {rounds} of all. This machine's own pace moves by
a quarter from minute to minute: rows whose brackets overlap are not told apart.

## Training: the step itself

`python benchmarks/step.py` ({described(stepped)}).

{step.table(stepped["cases"])}

{step.lesson(stepped["cases"])}
"""


def pair(name: str, rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The measured rows of a checkpoint by onnxruntime and of `fer`'s TFLite network."""
    told = {(row["name"], row["engine"].split()[0]): row for row in rows if "one" in row}
    return told[name, "onnxruntime"], told["fer", "TFLite"]


def share(row: dict[str, Any], split: str) -> float:
    counted = row["accuracy"][split]
    return 100 * counted["k"] / counted["n"]


def runs() -> str:
    """The part about the speedrun."""
    return f"""## FER2013 speedrun

`python benchmarks/speedrun.py --data path/to/fer2013 --target 65 --seeds 5 --final`. Everything was
chosen on PublicTest (validation); PrivateTest (test) was read once a seed, after the last epoch.

{speedrun.table(read("speedrun"))}
"""


def quoted() -> str:
    """The few rows that the README shows first."""
    looped, compared, beside = read("loop")["loop"], read("trainers"), read("against_fer")
    lines = ["| Speed | This repository | Beside it |", "|---|---|---|"]
    for case in looped["cases"]:
        share = median(turn["share"] for turn in case["turns"])
        bare = wanted.bare_pace(case)
        lines.append(
            f"| training {case['case']}: share of the bare step's pace | {share:.2f} | "
            f"the bare step, {bare:,.0f} pictures/s |"
        )
    rows = {row["name"]: row for row in compared["rows"] if "median" in row}
    ours = rows[trainers.OURS.name]["median"]
    others = ", ".join(
        f"{name} {rows[key]['median']:,.0f}" for key, name in OTHERS.items() if key in rows
    )
    lines.append(f"| training TinyVGG, 64 px (pictures/s) | {ours:,.0f} | {others} |")
    for name in QUOTED:
        lines += [answering(name, beside["rows"])]
    return "\n".join(lines)


def answering(name: str, rows: list[dict[str, Any]]) -> str:
    """One face through a checkpoint by onnxruntime, beside `fer`'s TFLite network."""
    mine, theirs = pair(name, rows)

    def words(row: dict[str, Any]) -> str:
        return (
            f"{1000 * row['one']['median']:.2f} ms, {128 / row['many']['median']:,.0f} faces/s, "
            f"{share(row, 'test'):.1f} % of PrivateTest"
        )

    what = f"one face, 128 faces: `{name}`, onnxruntime"
    return f"| {what} | {words(mine)} | `fer`: {words(theirs)} |"


def markdown() -> str:
    """The page; every figure in it is from a JSON file of this folder."""
    app, detectors, serving = (read(name) for name in ("app", "detectors", "serving"))
    beside = read("against_fer")
    machine = f"{app['processor']}, {app['cores']} cores, torch {app['torch']}"
    rule = detectors["crop"]
    package = next(
        row["ms 350 × 350"] for row in detectors["detectors"] if "facenet" in row["detector"]
    )
    return f"""# Benchmarks

Written by `python benchmarks/report.py` from the JSON files in this folder. Measured on
{machine}, idle but for the program measured; times are not part of the tests.

## Wanted, and what came of it

{wanted.table(wanted.aims())}

## The front doors

`python benchmarks/app.py --faces path/to/muxspace`. The whole command imports torch, reads the
networks, finds, names, draws and writes the CSV; what its start costs is seen by giving it twice
as many pictures.

{app_table(app)}

## Which detector

`python benchmarks/detectors.py --faces path/to/muxspace --data path/to/fer2013`: faces of Muxspace
at 350 pixels, and pasted into scenes of 640 × 480 without other people; mosaics of shuffled face
pictures among the scenes for false boxes. Pasted faces have hard edges and no shoulders: a
detector that lives on what surrounds a face (CenterFace) does better on real photos than here.

{detector_table(detectors["detectors"], detectors["counts"])}

MTCNN's networks were taken, in a cascade of our own: the package's takes twice the time for a
portrait, loses faces turned by 40 degrees, and cannot follow a face from frame to frame. Wanted
were 15 ms for 350 × 350, not reached on this machine, where the package, known at 22 ms elsewhere,
takes {package}. OpenCV 5 and MediaPipe ship no weights inside their packages.

## What the crop is worth

{detectors["counts"]["validation"]} validation faces of FER2013, never the test set, pasted at
150 pixels into the same scenes, found, cut out and shown to `{detectors["checkpoint"]}`.
Its card's rule, measured on {rule["measured"]} training faces: the detector's box has
{rule["size"]} of the side.

{crop_table(detectors["crops"])}

## The network alone

`python benchmarks/serving.py`: from a normalised batch in memory to its logits, float32,
{serving["threads"]} threads, median of three runs (fastest–slowest).

{table([timed(result) for result in serving["checkpoints"]])}

onnxruntime is ahead for single faces everywhere; for batches of large networks it is not.

## Beside the `fer` package

`python benchmarks/against_fer.py --data path/to/fer2013 --final`: the same whole pictures for every
network, each prepared as it wants them; int8 is calibrated on training faces.

{against_fer.table(beside)}

{training()}
{runs()}"""


if __name__ == "__main__":
    (HERE / "README.md").write_text(markdown(), encoding="utf-8")
    print(f"wrote {HERE / 'README.md'}")
