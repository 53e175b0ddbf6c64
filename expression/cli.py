"""The command line: pictures, folders, addresses, videos, a webcam → faces and expressions."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from expression.about import headline
from expression.checkpoint import list_checkpoints
from expression.face_detector import FaceFinder
from expression.face_prediction import NOT_SURE, check_min_confidence
from expression.input_names import expand, is_video, passed_over_words
from expression.output_files import OutputFiles
from expression.picture_batches import answer_pictures
from expression.predictor import ExpressionPredictor, Network, open_onnx
from expression.tables import Report
from expression.video_files import Progress, follow_video

__all__ = ["main"]

DESCRIPTION = "Find faces in pictures and videos and name the expression each shows."


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="picture, video, folder, pattern or address")
    add("--checkpoint", help="a file, or a name of --list (default: the first of --list)")
    add("--whole", action="store_true", help="each picture is one face already, cropped")
    add("--top-k", type=int, metavar="K", help="show only the K most likely classes")
    add("--min-confidence", type=float, metavar="P",
        help="answer \"not sure\" below this probability, in [0, 1): default the checkpoint's own, "
        "0 always names an expression")  # fmt: skip
    add("--json", action="store_true", help="one JSON list on standard output, for programs")
    add("--csv", type=Path, metavar="FILE", help="one row a face")
    add("--annotate", type=Path, metavar="DIR", help="pictures and videos with boxes drawn")
    add("--overwrite", action="store_true", help="replace files that exist, but never an input")
    add("--webcam", nargs="?", const="0", metavar="CAMERA",
        help="live, in a window: q quits, s saves a screenshot")  # fmt: skip
    add("--smallest", type=float, default=0.06, metavar="SHARE",
        help="smallest face, as a share of the picture's longer side (default 0.06)")  # fmt: skip
    add("--allow-private", action="store_true", help="also fetch addresses inside the own network")
    add("--export-onnx", action="store_true", help="write the checkpoint as .onnx beside it")
    add("--list", action="store_true", help="list the checkpoints and stop")
    return parser


def main(
    arguments: Sequence[str] | None = None,
    load_network: Callable[[Path], Network] = open_onnx,
    export: Callable[[str | None, bool], Path] | None = None,
) -> int:
    """Exit code 0, 2 when anything could not be answered, 130 when interrupted.

    `load_network` opens a checkpoint's network; `export(checkpoint, overwrite)` writes its .onnx
    where that can be done.
    """
    args = arguments_parser().parse_args(arguments)
    try:
        if args.list:
            for name, card in list_checkpoints().items():
                threshold = card.get("min_confidence", 0)
                below = f", {NOT_SURE} below {100 * threshold:.3g} %" if threshold else ""
                print(f"{name}: {headline(card)}{below}")
            return 0
        if args.export_onnx:
            if export is None:
                raise ValueError("exporting needs torch; from a clone: python predict.py")
            print(f"wrote {export(args.checkpoint, args.overwrite)}")
            if not args.inputs and args.webcam is None:
                return 0
        return answer(args, load_network)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was answered so far is kept", file=sys.stderr)
        return 130


def answer(args: argparse.Namespace, load_network: Callable[[Path], Network]) -> int:
    """Answer for the webcam, or for pictures and then videos; returns the exit code."""
    if not args.inputs and args.webcam is None:
        raise ValueError("no picture given; try: python predict.py photo.jpg")
    if args.top_k is not None and args.top_k < 1:
        raise ValueError(f"--top-k is {args.top_k}; it must be 1 or more")
    if args.min_confidence is not None:
        check_min_confidence(args.min_confidence, "--min-confidence")
    finder = FaceFinder(smallest=args.smallest)
    predictor = ExpressionPredictor(args.checkpoint, finder, load_network, args.min_confidence)
    folder = args.annotate or Path("out")
    if args.webcam is not None:
        from expression.webcam import mirror

        return mirror(predictor, args.webcam, folder)
    names, failed, passed_over = find_inputs(args.inputs)
    videos = [name for name in names if is_video(name)]
    pictures = [name for name in names if not is_video(name)]
    read: list[Path | str] = [*names, predictor.path, predictor.path.with_suffix(".onnx")]
    files = OutputFiles(inputs=read, overwrite=args.overwrite)
    report = Report(
        predictor.class_names, files, table=args.csv, annotate=args.annotate,
        as_json=args.json, top_k=args.top_k, brief=len(pictures) > 10,
    )  # fmt: skip
    bar = tqdm(total=len(pictures), unit="picture", disable=len(pictures) <= 10 or None)
    with report, bar:
        for found in answer_pictures(predictor, pictures, args.whole, args.allow_private):
            bar.update()
            if found.error:
                complain(found.error)
                failed = True
            else:
                report.add(found)
        report.finish()
        bar.close()
        for video in videos:
            try:
                with tqdm(unit="s", desc=Path(video).name, disable=None) as ticks:
                    told = follow_video(predictor, video, folder, ticker(ticks), files=files)
                report.add_video(told)
            except (OSError, ValueError) as error:
                complain(str(error))
                failed = True
    if passed_over:
        tqdm.write(passed_over_words(passed_over), file=sys.stderr)
    return 2 if failed else 0


def find_inputs(inputs: Sequence[str]) -> tuple[list[str], bool, Counter[str]]:
    """(files and addresses, each once and in order; whether any of the inputs was none; how many
    files folders held that were passed over, by ending)."""
    names: dict[str, None] = {}
    failed = False
    passed_over: Counter[str] = Counter()
    for given in inputs:
        try:
            found = expand([given])
            names |= dict.fromkeys(found.names)
            passed_over += found.passed_over
        except (OSError, ValueError) as error:
            complain(str(error))
            failed = True
    return list(names), failed, passed_over


def complain(reason: str) -> None:
    tqdm.write(f"error: {reason}", file=sys.stderr)


def ticker(bar: Any) -> Progress:
    """Shows the seconds of a video that are done on a progress bar."""

    def tick(done: float, total: float | None) -> None:
        bar.total = round(total, 1) if total else None
        bar.n = round(done, 1)
        bar.refresh()

    return tick


if __name__ == "__main__":
    sys.exit(main())
