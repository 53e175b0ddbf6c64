"""Train, resume, evaluate, explain and compare every system.

    python experiments.py train attention_cnn --data fer2013       one system, then its evaluation
    python experiments.py train finetune --data my_faces           your own folder and classes
    python experiments.py train attention_cnn --help               its settings, each an option
    python experiments.py train attention_cnn --data fer2013 --resume    an interrupted run goes on
    python experiments.py evaluate checkpoints/X.safetensors --data fer2013
    python experiments.py calibrate checkpoints/X.safetensors --data fer2013 --votes fer2013new.csv
    python experiments.py explain checkpoints/X.safetensors --data fer2013    Grad-CAM, attention
    python experiments.py compare                                  results/RESULTS.md from the JSONs
    python experiments.py --all --quick --data fer2013             all of it, minutes on two cores
    python experiments.py flagship --data fer2013 --seeds 5        the network that the demo serves
    python experiments.py ensemble checkpoints/*-fer2013.safetensors --data fer2013
    python experiments.py robustness checkpoints/X.safetensors --data fer2013    worse pictures
    python experiments.py label_noise checkpoints/X.safetensors --data fer2013 --votes FILE
    python experiments.py matrix checkpoints/X.safetensors --data fer2013 --also muxspace=PATH
    python experiments.py pack --data fer2013          one file that trains without `datasets`
    python experiments.py pack --data PARQUET --streaming --shards    mapped files, for large data
    python experiments.py publish expression --to owner/name    what would go to the hub; --yes

`--data` is whatever `lab.datasets.load` understands: a folder, a CSV, a hub id, kaggle:owner/name,
"synthetic"; or a packed file. `torchrun --nproc-per-node 2 experiments.py train ...` trains on two
processes (docs/scale.md). Only the validation split is measured until `--final` opens the
test split.
Writes checkpoints/, results/ and runs/ below `--out` (with --quick: out/quick).
Exit codes: 0 done, 2 not done, or not all of it: one line `error: …` says why; 1 interrupted.
EXPRESSION_TRACEBACK=1 shows the whole traceback of an error.
"""

import os
import shlex
import sys
from collections.abc import Sequence

os.environ.setdefault("MPLBACKEND", "Agg")

from expression.extras import end_without
from expression.files import shown_lines
from expression.terminal import escape_unprintable

try:
    from lab.commands import run_command
    from lab.options import Flagship
    from lab.parsing import parse
    from lab.processes import speaker
except ModuleNotFoundError as missing:  # what answers is installed alone, without torch
    end_without(missing, "training and measuring need", "train")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; `arguments` are the words behind the program's name."""
    escape_unprintable()
    words = list(sys.argv[1:] if arguments is None else arguments)
    program = sys.argv[0] if arguments is None else "experiments.py"
    try:
        command, recipes = parse(words)
        again = ["python", program, *words]
        if not isinstance(command, Flagship) and "--resume" not in words:
            again.append("--resume")  # a flagship goes on by itself
        run_command(command, recipes, shlex.join(again))
    except Exception as error:  # data from anywhere, drivers, full disks: never a trace
        if os.environ.get("EXPRESSION_TRACEBACK"):
            raise
        ended = SystemExit(f"{speaker()}error: {one_line(error)}")
        print(shown_lines(ended), file=sys.stderr)  # Python itself prints it with exit code 1 alone
        ended.code = 2
        raise ended from error


def one_line(error: Exception) -> str:
    """An error and the notes on it in one line; those that nobody wrote words for with their kind.

    From Python 3.11 on an error may have notes, such as who named the data.
    """
    lines = [*str(error).splitlines(), *getattr(error, "__notes__", [])]
    text = "; ".join(line.strip().rstrip(";") for line in lines if line.strip())
    known = isinstance(error, OSError | ValueError | FloatingPointError | RuntimeError)
    if known and text:
        return text
    return f"{type(error).__name__}: {text} (EXPRESSION_TRACEBACK=1 shows where)"


if __name__ == "__main__":
    main()
