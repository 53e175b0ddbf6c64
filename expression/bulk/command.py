"""The command: expression label SOURCE … --out DIR (see the package)."""

import argparse
import sys
from collections.abc import Sequence

from tqdm import tqdm

from expression.bulk.cluster import check_installed
from expression.face_prediction import check_min_confidence
from expression.files import shown_lines
from expression.input_names import passed_over_words
from expression.memory import give_back_large_blocks
from expression.terminal import escape_unprintable

__all__ = ["main"]

DESCRIPTION = "Label many pictures and films on many cores or machines, into parquet files."
EPILOG = "A run that was interrupted or killed goes on when it is started again."


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="expression label", description=DESCRIPTION, epilog=EPILOG
    )
    add = parser.add_argument
    add("source", nargs="+", metavar="SOURCE",
        help="folder, parquet table, list of names (.txt), picture, film or web address; also "
        "s3://…, gs://… and others of fsspec")  # fmt: skip
    add("--out", required=True, metavar="DIR", help="folder of the results; also s3://… and others")
    add("--checkpoint", help="as without `label`; on a cluster each machine opens its own copy")
    add("--workers", type=int, metavar="N", help="processes that answer (default: one a core)")
    add("--address", help="a Ray cluster: auto, or HOST:PORT (default: one is started here)")
    add("--column", help="of parquet tables: the one of pictures, where several could be")
    add("--whole", action="store_true", help="each picture is one face already, cropped")
    add("--min-confidence", type=float, metavar="P",
        help="answer \"not sure\" below this probability (default: checkpoint's)")  # fmt: skip
    add("--smallest", type=float, metavar="SHARE", help="smallest face, as without `label`")
    add("--allow-private", action="store_true", help="also fetch addresses inside the own network")
    add("--chunk", type=int, default=64, metavar="N",
        help="pictures that a worker takes at once (default: 64)")  # fmt: skip
    add("--part", type=int, default=8192, metavar="N",
        help="pictures in a file of results (default: 8192)")  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 when the run could not go on, 130 when interrupted."""
    escape_unprintable()
    give_back_large_blocks()
    args = arguments_parser().parse_args(arguments)
    try:
        check_arguments(args)
        check_installed()
        return run(args)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {shown_lines(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was labelled so far is kept", file=sys.stderr)
        return 130


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for options out of range."""
    for name in ("workers", "chunk", "part"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}; it must be 1 or more")
    if args.min_confidence is not None:
        check_min_confidence(args.min_confidence, "--min-confidence")


def run(args: argparse.Namespace) -> int:
    # These need what the extra `scale` installs
    from expression.bulk.cluster import started
    from expression.bulk.label import Pace, label, on_ray
    from expression.bulk.sources import Source
    from expression.bulk.worker import Settings

    source = Source(args.source, args.column)
    settings = Settings(
        args.checkpoint, "", args.whole, args.min_confidence, args.smallest, args.allow_private
    )
    pace = Pace(chunk=args.chunk, part=args.part)
    with started(args.workers, args.address) as workers:
        with tqdm(unit="picture", disable=None) as bar:
            counts = label(source, args.out, settings, on_ray(workers), pace, workers, bar.update)
    before = f"; {counts.before:,} were labelled before" if counts.before else ""
    print(
        f"{counts.pictures:,} labelled: {counts.faces:,} faces, {counts.without:,} without a face, "
        f"{counts.errors:,} that could not be read{before}"
    )
    if source.passed_over:
        print(passed_over_words(source.passed_over), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
