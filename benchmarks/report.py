"""Write benchmarks/README.md from the JSON files beside it: python benchmarks/report.py"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

from benchmarks.detectors import crop_table, detector_table
from benchmarks.serving import Timing, table

__all__ = ["markdown"]

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


def markdown() -> str:
    """The page; every figure in it is from a JSON file of this folder."""
    app, detectors, serving = (read(name) for name in ("app", "detectors", "serving"))
    machine = f"{app['processor']}, {app['cores']} cores, torch {app['torch']}"
    rule = detectors["crop"]
    package = next(
        row["ms 350 × 350"] for row in detectors["detectors"] if "facenet" in row["detector"]
    )
    return f"""# Benchmarks

Written by `python benchmarks/report.py` from the JSON files in this folder. Measured on
{machine}, idle but for the program measured; times are not part of the tests.

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
"""


if __name__ == "__main__":
    (HERE / "README.md").write_text(markdown(), encoding="utf-8")
    print(f"wrote {HERE / 'README.md'}")
