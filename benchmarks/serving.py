"""How fast the network of each checkpoint answers: torch beside onnxruntime, on the CPU.

    python -m benchmarks.serving                              → benchmarks/serving.json
    python -m benchmarks.serving --only tinyvgg-fer2013 --threads 1 --out quick.json

Timed is the network alone in float32, from a normalised batch in memory to its logits; reading
pictures and finding faces are not included. Both engines take turns. Run it on an idle machine.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness, subjects
from benchmarks.harness import Timing

__all__ = ["measure", "table"]

MANY = 128
HEADS = ("Checkpoint", "1 face, torch (ms)", "onnxruntime (ms)", "Speed-up",
         f"{MANY} faces, torch (faces/s)", "onnxruntime (faces/s)", "Speed-up",
         "Largest difference of a logit")  # fmt: skip


@torch.inference_mode()
def measure(path: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Both engines on one checkpoint; torch alone, and the reason, where it has no ONNX form."""
    predictor = subjects.ExpressionPredictor(path)
    rule = predictor.preprocess
    shape = (rule.channels, rule.size, rule.size)
    images = subjects.random_faces(MANY, shape, torch.Generator().manual_seed(1))
    engines, row = {"torch": predictor.model}, {"name": path.stem}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        try:
            subjects.export_onnx(predictor.model, predictor.card, file)
            engines["onnx"] = subjects.OnnxNetwork(file, threads=torch.get_num_threads())
            row["difference"] = (predictor.model(images) - engines["onnx"](images)).abs().max()
            row["difference"] = row["difference"].item()
        except ValueError as error:
            row["reason"] = str(error)
    for key, batch in (("one", images[:1]), ("many", images)):
        ways = {name: partial(network, batch) for name, network in engines.items()}
        times = harness.time_calls(ways, torch.device("cpu"), rounds, seconds)
        row[key] = {name: asdict(Timing.of(runs)) for name, runs in times.items()}
    return row


def table(told: dict[str, Any]) -> str:
    units = {"one": Timing.milliseconds, "many": partial(Timing.per_second, count=MANY)}

    def cells(row: dict[str, Any]) -> Iterator[str]:
        yield f"`{row['name']}`"
        for key, text in units.items():
            times = {name: Timing(**t) for name, t in row[key].items()}
            yield text(times["torch"])
            if "onnx" in times:
                yield text(times["onnx"])
                yield f"{times['torch'].median / times['onnx'].median:.2f} ×"
            else:
                yield from (row["reason"], "–")
        yield f"{row['difference']:.1e}" if "difference" in row else "–"

    return harness.markdown_table(HEADS, (list(cells(row)) for row in told["rows"]))


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("serving", __doc__, rounds=5, seconds=0.5)
    parser.add_argument("--folder", type=Path, default=subjects.CHECKPOINTS)
    parser.add_argument("--only", metavar="NAME", help="one checkpoint, without .safetensors")
    args = harness.parse(parser, arguments)
    known = list(subjects.checkpoints(args.folder))
    names = [name for name in known if args.only in (None, name)]
    if not names:
        found = ", ".join(known) or "none"
        raise ValueError(f"no checkpoint {args.only or ''} in {args.folder}; found: {found}")
    about = harness.record("serving", arguments, torch.device("cpu"), ("onnxruntime", "onnx"),
                           rounds=args.rounds, seconds=args.seconds)  # fmt: skip
    rows = (
        measure(args.folder / f"{name}.safetensors", args.rounds, args.seconds) for name in names
    )
    return harness.measure_rows(args.out, about, rows, table)


if __name__ == "__main__":
    sys.exit(main())
