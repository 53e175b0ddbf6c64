"""How fast each checkpoint answers: torch beside onnxruntime, one face and many.

    python benchmarks/serving.py                      all of checkpoints/ → benchmarks/serving.json
    python benchmarks/serving.py --only tinyvgg-fer2013 --out out/serving.json --threads 1

Measured is the network alone, on the CPU in float32, from a normalised batch in memory to its
logits: neither reading and preparing pictures nor finding faces is in these figures. Each is
the median of three runs, a run being as many calls as fill half a second, and the range tells
the fastest and the slowest run. Run it on an idle machine, or it measures the neighbours.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

import torch
from torch import Tensor

from benchmarks.machine import processor
from expression.checkpoint import CHECKPOINTS
from expression.checkpoint import list_checkpoints as checkpoints
from expression.onnx_network import OnnxNetwork
from expression.predictor import ExpressionPredictor
from lab.export import export_onnx, random_faces

__all__ = ["Timing", "measure", "measure_checkpoint", "table"]

OUT = Path(__file__).resolve().parent / "serving.json"
MANY, RUNS, SECONDS = 128, 3, 0.5
HEAD = (
    f"| Checkpoint | One face, torch (ms) | onnxruntime (ms) | Speed-up | {MANY} faces, torch "
    "(faces/s) | onnxruntime (faces/s) | Speed-up | Largest difference of a logit |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Timing:
    """Seconds for one call: the median run, the fastest and the slowest."""

    median: float
    fastest: float
    slowest: float

    def milliseconds(self) -> str:
        low, mid, high = (f"{1000 * t:.3g}" for t in (self.fastest, self.median, self.slowest))
        return f"{mid} ({low}–{high})"

    def rate(self, faces: int) -> str:
        low, mid, high = (f"{faces / t:,.0f}" for t in (self.slowest, self.median, self.fastest))
        return f"{mid} ({low}–{high})"


def measure(call: Callable[[], Any], runs: int = RUNS, seconds: float = SECONDS) -> Timing:
    """Time a call: one to warm up, then `runs` times as many calls as fill `seconds`."""
    call()
    results = []
    for _ in range(runs):
        start, calls = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < seconds or not calls:
            call()
            calls += 1
        results.append(passed / calls)
    return Timing(median(results), min(results), max(results))


def measure_model(model: Callable[[Tensor], Tensor], images: Tensor) -> dict[str, Timing]:
    with torch.inference_mode():
        return {
            "one": measure(lambda: model(images[:1])),
            "many": measure(lambda: model(images)),
        }


def measure_checkpoint(path: Path, threads: int) -> dict[str, Any]:
    """Both engines on one checkpoint; where it cannot be exported, torch alone and the reason."""
    predictor = ExpressionPredictor(path)
    rule = predictor.preprocess
    shape = (rule.channels, rule.size, rule.size)
    images = random_faces(MANY, shape, torch.Generator().manual_seed(1))
    result: dict[str, Any] = {
        "name": path.stem,
        "input": list(shape),
        "torch": measure_model(predictor.model, images),
        "onnx": None,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{path.stem}.onnx"
        try:
            export_onnx(predictor.model, predictor.card, file)
        except ValueError as error:
            return {**result, "reason": str(error)}
        exported = OnnxNetwork(file, threads=threads)
        result["onnx_bytes"] = file.stat().st_size
    # Opened only now: its threads wait by spinning, at the cost of who runs beside them.
    result["onnx"] = measure_model(exported, images)
    with torch.inference_mode():
        result["difference"] = (predictor.model(images) - exported(images)).abs().max().item()
    return result


def line(result: dict[str, Any]) -> str:
    """A row of the table."""
    ours, theirs = result["torch"], result["onnx"]
    if theirs is None:
        cells = [ours["one"].milliseconds(), "–", "–", ours["many"].rate(MANY), "–", "–", "–"]
    else:
        cells = [
            ours["one"].milliseconds(),
            theirs["one"].milliseconds(),
            f"{ours['one'].median / theirs['one'].median:.2f} ×",
            ours["many"].rate(MANY),
            theirs["many"].rate(MANY),
            f"{ours['many'].median / theirs['many'].median:.2f} ×",
            f"{result['difference']:.1e}",
        ]
    return "| " + " | ".join([f"`{result['name']}`", *cells]) + " |"


def table(results: list[dict[str, Any]]) -> str:
    """All rows as Markdown, and below them why some have no figures of onnxruntime."""
    notes = [f"\n`{r['name']}`: {r['reason']}." for r in results if "reason" in r]
    return "\n".join([HEAD, *(line(r) for r in results), *notes])


def surroundings(threads: int) -> dict[str, Any]:
    """What the figures depend on beside the networks."""
    packages = ("torch", "onnxruntime", "onnxscript", "onnx")
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "platform": platform.platform(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "measured": "the network alone, float32 on the CPU; preparing the pictures excluded",
        "unit": "seconds for one call",
        "faces": {"one": 1, "many": MANY},
        "runs": RUNS,
        "seconds_per_run": SECONDS,
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 2 when there was nothing to measure."""
    parser = argparse.ArgumentParser(description="Time torch and onnxruntime on each checkpoint.")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="JSON to write")
    parser.add_argument("--threads", type=int, metavar="N", help="of both (default: torch's)")
    parser.add_argument("--only", metavar="NAME", help="one checkpoint, named as its file")
    args = parser.parse_args(arguments)
    if args.threads is not None and args.threads < 1:
        parser.error(f"--threads is {args.threads}; it must be 1 or more")
    names = list(checkpoints(args.checkpoints))
    chosen = [name for name in names if args.only in (None, name)]
    if not chosen:
        known = ", ".join(names) or "none at all"
        wanted = args.only or "to measure"
        print(f"error: no checkpoint {wanted} in {args.checkpoints}; {known}", file=sys.stderr)
        return 2
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    threads = torch.get_num_threads()
    results = []
    for name in chosen:
        print(f"{name} …", file=sys.stderr)
        try:
            results.append(measure_checkpoint(args.checkpoints / f"{name}.safetensors", threads))
        except (ImportError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    content = {**surroundings(threads), "checkpoints": results}
    text = json.dumps(content, indent=1, ensure_ascii=False, default=asdict)
    args.out.write_text(text + "\n", encoding="utf-8")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
