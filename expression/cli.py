"""The command line: pictures, folders, addresses, videos, a webcam → faces and expressions."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from expression.about import headline
from expression.checkpoint import list_checkpoints, resolve_checkpoint
from expression.face_detector import FINER_SMALLEST, FaceFinder
from expression.face_prediction import NOT_SURE, check_min_confidence
from expression.file_kinds import is_picture_name, is_video_name
from expression.files import shown, shown_lines
from expression.input_names import expand, is_video, passed_over_words
from expression.memory import give_back_large_blocks
from expression.networks import Network, export, open_network, program
from expression.output_files import OutputFiles, check_folder
from expression.picture_batches import answer_pictures
from expression.predictor import ExpressionPredictor
from expression.report import Report, Wanted
from expression.sorting import check_sorting
from expression.terminal import escape_unprintable

__all__ = ["main"]

DESCRIPTION = "Find faces in pictures and videos and name the expression each shows."


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="picture, video, folder, pattern or address")
    add("--checkpoint",
        help="a file, a name of --list (default: the first of --list), or hf:owner/name, a network "
        "on the Hugging Face hub")  # fmt: skip
    add("--whole", action="store_true", help="each picture is one face already, cropped")
    add("--top-k", type=int, metavar="K", help="show only the K most likely classes")
    add("--min-confidence", type=float, metavar="P",
        help="answer \"not sure\" below this probability, in [0, 1): default the checkpoint's own, "
        "0 always names an expression")  # fmt: skip
    add("--json", action="store_true", help="one JSON list on standard output, for programs")
    add("--csv", type=Path, metavar="FILE",
        help="one row a face, of pictures and of each frame of videos")  # fmt: skip
    add("--annotate", type=Path, metavar="DIR",
        help="pictures and videos with boxes drawn; tables and plots of videos")  # fmt: skip
    add("--sort-into", type=Path, metavar="DIR",
        help="copy each picture into DIR/EXPRESSION, by its largest face; also \"not sure\" and "
        "\"no face\"; no copy replaces a file")  # fmt: skip
    add("--overwrite", action="store_true", help="replace files that exist, but never an input")
    add("--webcam", nargs="?", const="0", metavar="CAMERA",
        help="live, in a window: q quits, s saves a screenshot")  # fmt: skip
    add("--smallest", type=float, metavar="SHARE",
        help="smallest face, as a share of the picture's longer side (default: 0.06, and finer "
        "where there is none, or small ones)")  # fmt: skip
    add("--allow-private", action="store_true", help="also fetch addresses inside the own network")
    add("--export-onnx", action="store_true", help="write the checkpoint as .onnx beside it")
    add("--list", action="store_true", help="list the checkpoints and stop")
    return parser


def main(
    arguments: Sequence[str] | None = None,
    load_network: Callable[[Path], Network] = open_network,
) -> int:
    """Exit code 0, 2 when anything could not be answered, 130 when interrupted.

    `load_network` opens a checkpoint's network. With `label` as the first argument it is the
    command of `expression.bulk`; a file of that name is ./label.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["label"]:
        from expression.bulk.command import main as label_main

        return label_main(given[1:])
    escape_unprintable()
    give_back_large_blocks()
    args = arguments_parser().parse_args(given)
    try:
        if args.list:
            for name, card in list_checkpoints().items():
                threshold = card.get("min_confidence", 0)
                below = f", {NOT_SURE} below {100 * threshold:.3g} %" if threshold else ""
                print(shown(f"{name}: {headline(card)}{below}"))
            return 0
        if args.export_onnx:
            print(f"wrote {shown(export(args.checkpoint, args.overwrite))}")
            if not args.inputs and args.webcam is None:
                return 0
        return answer(args, load_network)
    except (OSError, ValueError, ImportError) as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was answered so far is kept", file=sys.stderr)
        return 130


def answer(args: argparse.Namespace, load_network: Callable[[Path], Network]) -> int:
    """Answer for the webcam, or for pictures and then videos; returns the exit code."""
    check_arguments(args)
    checkpoint = resolve_checkpoint(args.checkpoint)  # before the detector is loaded
    finder = FaceFinder(smallest=args.smallest)
    predictor = ExpressionPredictor(checkpoint, finder, load_network, args.min_confidence)
    if args.webcam is not None:
        from expression.webcam import mirror

        return mirror(predictor, args.webcam, check_folder(args.annotate or Path("out")))
    names, failed, passed_over = find_inputs(args.inputs)
    if args.sort_into:
        check_sorting(args.sort_into, args.inputs, names)
    videos = [name for name in names if is_video(name)]
    pictures = [name for name in names if not is_video(name)]
    read: list[Path | str] = [*names, predictor.path, predictor.path.with_suffix(".onnx")]
    files = OutputFiles(inputs=read, overwrite=args.overwrite)
    wanted = Wanted(
        args.csv, args.annotate, args.sort_into, args.json, args.top_k,
        brief=len(pictures) > 10, smallest=args.smallest or FINER_SMALLEST,
    )  # fmt: skip
    with Report(predictor.class_names, files, wanted) as report:
        bar = tqdm(total=len(pictures), unit="picture", disable=len(pictures) <= 10 or None)
        with bar:
            for found in answer_pictures(predictor, pictures, args.whole, args.allow_private):
                bar.update()
                if found.error:
                    complain(found.error)
                    report.add_unread(found.name)
                    failed = True
                else:
                    report.add(found)
        report.finish()
        for video in videos:
            failed |= not answer_video(predictor, video, args.annotate, files, report)
    if passed_over:
        tqdm.write(passed_over_words(passed_over), file=sys.stderr)
    return 2 if failed else 0


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for options that are missing, out of range, or have no meaning together."""
    if args.webcam is not None:
        others = ("inputs", "json", "csv", "sort_into", "whole")
        if idle := [name.replace("_", "-") for name in others if getattr(args, name)]:
            told = ", ".join("INPUT" if name == "inputs" else f"--{name}" for name in idle)
            raise ValueError(f"--webcam answers in a window; leave out {told}, or --webcam")
    elif not args.inputs:
        raise ValueError(f"no picture given; try: {program()} photo.jpg")
    table = args.csv
    if table and (str(table) == "-" or is_picture_name(table) or is_video_name(table)):
        raise ValueError(f"--csv is {table}; give the name of a table, such as faces.csv")
    if args.top_k is not None and args.top_k < 1:
        raise ValueError(f"--top-k is {args.top_k}; it must be 1 or more")
    if args.min_confidence is not None:
        check_min_confidence(args.min_confidence, "--min-confidence")


def answer_video(
    predictor: ExpressionPredictor,
    video: str,
    folder: Path | None,
    files: OutputFiles,
    report: Report,
) -> bool:
    """Follow the faces of one video and report them; False where it could not be read."""
    from expression.video_files import follow_video  # loads FFmpeg: not for a picture

    try:
        with tqdm(unit="s", desc=shown(Path(video).name), disable=None) as ticks:
            each = partial(report.add_frame, video)
            told = follow_video(
                predictor, video, folder, ticker(ticks), files=files, each_frame=each
            )
        report.add_video(video, told)
    except (OSError, ValueError) as error:
        complain(str(error))
        report.add_broken_video(str(error))
        return False
    return True


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
    tqdm.write(f"error: {shown_lines(reason)}", file=sys.stderr)


def ticker(bar: Any) -> Callable[[float, float | None], None]:
    """Shows the seconds of a video that are done on a progress bar."""

    def tick(done: float, total: float | None) -> None:
        bar.total = round(total, 1) if total else None
        bar.n = round(done, 1)
        bar.refresh()

    return tick


if __name__ == "__main__":
    sys.exit(main())
