"""Train, resume, evaluate, explain and compare every system.

    python experiments.py train attention_cnn --data fer2013       one system, then its evaluation
    python experiments.py train --resume attention_cnn --data fer2013    an interrupted run goes on
    python experiments.py evaluate checkpoints/X.safetensors --data fer2013
    python experiments.py explain checkpoints/X.safetensors --data fer2013    Grad-CAM, attention
    python experiments.py compare                                  results/RESULTS.md from the JSONs
    python experiments.py --all --quick --data fer2013             all of it, minutes on two cores
    python experiments.py flagship --data fer2013 --seeds 5        the network that the demo serves
    python experiments.py ensemble checkpoints/*-fer2013.safetensors --data fer2013
    python experiments.py pack --data fer2013          one file that trains without `datasets`

`--data` is whatever `sources.load` understands: a folder, a CSV, a hub id, "synthetic"; or a
packed file.
Writes checkpoints/, results/ and runs/ below `--out` (with --quick: out/quick).
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")

import torch

from hf_collate import Augment
from insight.metrics import VIEW_WORDS
from lab import classical, comparison, evaluation, explanation, flagship
from lab.data import Faces, pack, read
from lab.recipes import QUICK, RECIPES, Recipe
from lab.training import Run, find_run, train_network

FINAL = "open the test split too, and log it in results/test_openings.jsonl"
PLAIN = {int: int, float: float, str: str}


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """One option for every plain field of Recipe and Augment, named as the field is."""
    group = parser.add_argument_group("settings (default: the system's recipe)")
    for kind in (Recipe, Augment):
        for field in dataclasses.fields(kind):
            option = "--" + field.name.replace("_", "-")
            if field.name == "class_weights":
                group.add_argument(option, action=argparse.BooleanOptionalAction)
            elif field.type in PLAIN:
                group.add_argument(option, type=PLAIN[field.type], metavar=field.type.__name__)
    group.add_argument("--no-augment", action="store_true", help="show the pictures as they are")
    group.add_argument(
        "--arg", action="append", default=[], metavar="NAME=VALUE",
        help="an argument of the system itself, such as stem=3x3 or patch=12; may be repeated",
    )  # fmt: skip


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Recipe and Augment fields, and system arguments, that the command line gives."""
    given = {k: v for k, v in vars(args).items() if v is not None and v != []}
    names = {f.name for kind in (Recipe, Augment) for f in dataclasses.fields(kind)}
    return {k: v for k, v in given.items() if k in names | {"arg"} or k == "no_augment" and v}


def recipe_for(name: str, given: dict[str, Any], quick: bool) -> Recipe:
    """The recipe of a name, with quick settings and then the given ones in place of its own."""
    recipe = RECIPES[name]
    fields = {f.name for f in dataclasses.fields(Recipe)}
    if quick and recipe.system not in classical.SYSTEMS:
        short = {"head_epochs": min(recipe.head_epochs, 1)}
        recipe = replace(recipe, **QUICK, **short)
    elif quick:
        recipe = replace(recipe, limit=QUICK["limit"], limit_eval=QUICK["limit_eval"])
    recipe = replace(recipe, **{k: v for k, v in given.items() if k in fields})
    changes = {k: v for k, v in given.items() if k in {f.name for f in dataclasses.fields(Augment)}}
    if changes and recipe.augment:
        recipe = replace(recipe, augment=replace(recipe.augment, **changes))
    if given.get("no_augment"):
        recipe = replace(recipe, augment=None)
    args = {**recipe.system_args}
    if recipe.system == "vit_tiny":
        args["size"] = recipe.size
    for word in given.get("arg", []):
        key, _, value = word.partition("=")
        try:
            args[key] = json.loads(value)
        except json.JSONDecodeError:
            args[key] = value
    return replace(recipe, system_args=args)


def command_for(name: str, args: argparse.Namespace, seed: int) -> str:
    """The one command that makes this row again, without folders of this machine."""
    words = ["python experiments.py train", name]
    if args.data:
        words.append(f"--data {Path(args.data).name if Path(args.data).exists() else args.data}")
    words += [f"--{k} {v}" for k in ("name", "classes") if (v := getattr(args, k))]
    words += [f"--seed {seed}"] * bool(seed) + ["--quick"] * args.quick
    for key, value in settings(args).items():
        option = "--" + key.replace("_", "-")
        if isinstance(value, list):
            words += [f"{option} {v}" for v in value]
        elif isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-"))
        else:
            words.append(f"{option} {value}")
    return " ".join(words)


def run_for(name: str, faces: Faces, args: argparse.Namespace, seed: int, stamp: str) -> Run:
    """Where this run writes: a new folder, or with --resume the newest one that has a state."""
    runs = args.out / "runs"
    parts = (faces.name, name, f"seed{seed}")
    folder = (find_run(runs, *parts) if args.resume else None) or runs.joinpath(stamp, *parts)
    recipe = recipe_for(name, settings(args), args.quick)
    return Run(name, recipe, faces, seed, args.device, folder, args.out,
               command_for(name, args, seed))  # fmt: skip


def train_one(run: Run, resume: bool, final: bool) -> Path:
    """Train (or find trained) and evaluate one run; returns the folder of its results."""
    finished = run.folder / "finished"
    if not (resume and finished.exists() and run.checkpoint.exists()):
        print(f"\n{run.stem}  →  {run.folder}", flush=True)
        fit = classical.train_svm if run.recipe.system in classical.SYSTEMS else train_network
        fit(run)
        finished.touch()
    return evaluation.evaluate(
        run.checkpoint, run.faces, run.out, run.device, run.folder, final=final
    )


def train_all(names: Sequence[str], faces: Faces, args: argparse.Namespace) -> list[Path]:
    """Train and evaluate each; returns the checkpoints. With several systems one that cannot run
    does not stop the others: what it lacked is said at once and again at the end.
    """
    stamp, done, failed = time.strftime("%Y%m%d-%H%M%S"), [], []
    for name in names:
        for seed in range(args.seed, args.seed + args.seeds):
            run = run_for(name, faces, args, seed, stamp)
            if len(names) > 1 and run.knows_data():
                print(f"{run.stem} left out: {run.recipe.weights} was trained on these very faces")
                continue
            try:
                results = train_one(run, args.resume, args.final)
                print(f"wrote {results} and {run.checkpoint}", flush=True)
                done.append(run.checkpoint)
            except (ValueError, FloatingPointError, RuntimeError) as error:
                if len(names) == 1:
                    raise
                failed.append(f"{run.stem} did not run: {error}")
                print(failed[-1], file=sys.stderr, flush=True)
            except KeyboardInterrupt:
                state = run.folder / "state.pt"
                how = f"go on with: {run.command} --resume" if state.exists() else "nothing to keep"
                raise SystemExit(f"\n{run.stem} interrupted; {how}") from None
    if failed:
        finish(done, faces, args)
        raise SystemExit("\n".join(failed))
    return done


def make_flagship(name: str, faces: Faces, args: argparse.Namespace) -> Path:
    """Every seed trained and evaluated below out/flagship, the best one exported, all averaged."""
    home, args.out = args.out, args.out / "out" / "flagship"
    args.resume = True  # a seed that is done is not trained again; one cut short goes on
    trained = list((args.out / "checkpoints").glob("*.safetensors"))
    flagship.check_target(home, f"{name}-{faces.name}", trained)
    done = train_all([name], faces, args)
    reports = [args.out / "results" / path.stem for path in done]
    best = flagship.export(reports, home, f"{name}-{faces.name}")
    if len(done) > 1:
        flagship.ensemble(done, faces, home, args.device, final=args.final)
    return best


def finish(checkpoints: Sequence[Path], faces: Faces, args: argparse.Namespace) -> None:
    """The end of `--all`: maps of every network, the table, the figures."""
    for checkpoint in checkpoints:
        for path in explanation.explain(checkpoint, faces, args.out, args.device):
            print(f"wrote {path}", flush=True)
    path = comparison.compare(args.out / "results")
    print(f"\n{path.read_text(encoding='utf-8')}\nwrote {path}")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--data", help="folder, CSV, hub id or 'synthetic' (default: EXPRESSION_DATA, "
        "then the hub, then synthetic)",
    )  # fmt: skip
    shared.add_argument("--name", help="the data set's name in file names (default: the folder's)")
    shared.add_argument("--classes", type=int, default=0, help="4: merge FER2013's seven")
    shared.add_argument("--strict", action="store_true", help="stop at the first bad row")
    shared.add_argument(
        "--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu"
    )
    shared.add_argument("--out", type=Path, help="where checkpoints/, results/, runs/ go")
    shared.add_argument("--quick", action="store_true", help="a look, not a result: few pictures")

    trainer = commands.add_parser("train", parents=[shared], help="train, then evaluate")
    trainer.add_argument("systems", nargs="*", metavar="SYSTEM", help=", ".join(RECIPES))
    trainer.add_argument("--all", action="store_true", help="every system; then compare, explain")
    trainer.add_argument("--seed", type=int, default=0, help="the first seed")
    trainer.add_argument("--seeds", type=int, default=1, help="how many runs of each system")
    trainer.add_argument("--final", action="store_true", help=FINAL)
    trainer.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    add_recipe_options(trainer)
    best = commands.add_parser("flagship", parents=[shared], help="seeds, the best one exported")
    best.add_argument("which", nargs="?", default="expression", help="default: expression")
    best.add_argument("--seed", type=int, default=0, help="the first seed")
    best.add_argument("--seeds", type=int, default=5, help="how many")
    best.add_argument("--final", action="store_true", help=FINAL)
    add_recipe_options(best)
    packer = commands.add_parser("pack", parents=[shared], help="a data set in one file")
    packer.add_argument("--to", type=Path, help="default: .expression_cache/NAME.npz")
    for name, text in (("evaluate", "measure checkpoints"), ("explain", "where networks look"),
                       ("ensemble", "measure checkpoints together")):  # fmt: skip
        command = commands.add_parser(name, parents=[shared], help=text)
        command.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT")
        if name != "explain":
            command.add_argument("--final", action="store_true", help=FINAL)
            command.add_argument("--shifts", action="store_true",
                                 help=VIEW_WORDS["tta18"])  # fmt: skip
    compare = commands.add_parser("compare", help="write results/RESULTS.md from the JSONs there")
    compare.add_argument("--out", type=Path, default=Path())
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0].startswith("--") and "--all" in words:
        words.insert(0, "train")
    args = parser().parse_args(words)
    try:
        act(args)
    except (OSError, ValueError, FloatingPointError, RuntimeError) as error:
        if os.environ.get("EXPRESSION_TRACEBACK"):
            raise
        raise SystemExit(f"{type(error).__name__}: {error}") from error


def act(args: argparse.Namespace) -> None:
    if args.command == "compare":
        print(f"wrote {comparison.compare(args.out / 'results')}")
        return
    args.out = args.out or Path("out/quick" if args.quick else ".")
    if args.command in ("train", "flagship"):
        if args.command == "flagship":
            names = [args.which]
        else:
            names = list(RECIPES) if args.all else args.systems
        if not names or (unknown := [n for n in names if n not in RECIPES]):
            found = f"unknown: {', '.join(unknown)}" if names else "none named"
            raise SystemExit(f"which system? {found}; known: {', '.join(RECIPES)}, or --all")
    faces = read(args.data, args.name, args.classes, args.strict)
    if args.command == "train":
        done = train_all(names, faces, args)
        if args.all:
            finish(done, faces, args)
        return
    if args.command == "flagship":
        print(f"exported {make_flagship(args.which, faces, args)}")
        return
    if args.command == "pack":
        print(f"wrote {pack(faces, args.to or Path(f'.expression_cache/{faces.name}.npz'))}")
        return
    if args.command == "ensemble":
        way = "tta18" if args.shifts else "flip"
        done = flagship.ensemble(
            args.checkpoints, faces, args.out, args.device, way, final=args.final
        )
        print(f"wrote {done}")
        return
    for checkpoint in args.checkpoints:
        if args.command == "evaluate":
            ways = ("plain", "flip", "tta18") if args.shifts else ("plain", "flip")
            done = evaluation.evaluate(
                checkpoint, faces, args.out, args.device, ways=ways, final=args.final
            )
            print(f"wrote {done}")
        for path in explanation.explain(checkpoint, faces, args.out, args.device):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
