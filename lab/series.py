"""Trainings that belong together, one after another: the seeds of a system, or all systems."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from expression.files import whole_files
from lab import comparison, evaluation, flagship
from lab.checks import UsageError
from lab.data import Faces, preprocess
from lab.explanation import draw_maps
from lab.from_checkpoint import FROM_CARD, write_onnx
from lab.further_data import data_name
from lab.options import Flagship, Settings, Train
from lab.parsing import default_recipe
from lab.processes import ALONE, Processes
from lab.recipe import Recipe
from lab.recording import record_command
from lab.resuming import STATE, find_run, finish_run, is_finished
from lab.run import Run
from lab.svm_training import SYSTEMS as SVM_SYSTEMS
from lab.svm_training import train_svm
from lab.tensorboard_log import TensorBoardLog
from lab.training import train_network

__all__ = ["make_flagship", "train"]


@dataclass(frozen=True)
class Series:
    """Runs that belong together: what they share beside the recipe and the seed."""

    command: Settings
    faces: Faces
    further: tuple[Faces, ...]
    device: torch.device
    out: Path  # holds checkpoints/, results/ and runs/
    resume: bool  # go on with the newest run of the same name
    stamp: str  # of new runs' folders
    processes: Processes = ALONE

    def run(self, name: str, recipe: Recipe, seed: int) -> Run:
        """Where a run writes: a new folder, or the newest one that can be resumed."""
        data = data_name(self.faces, self.further)
        runs, parts = self.out / "runs", (data, name, f"seed{seed}")
        folder = find_run(runs, *parts) if self.resume else None
        usual = default_recipe(name, self.command.quick)
        if recipe.fine_tune:  # they follow from the checkpoint
            usual = replace(usual, **{field: getattr(recipe, field) for field in FROM_CARD})
        text = record_command(name, recipe, usual, self.command, seed)
        folder = folder or runs.joinpath(self.stamp, *parts)
        return Run(
            name, recipe, self.faces, seed, self.device, folder, self.out, text, self.further,
            self.processes,
        )  # fmt: skip


def train(
    command: Train, recipes: Mapping[str, Recipe], faces: Faces, further: tuple[Faces, ...],
    device: torch.device, again: str, left_out: Sequence[str], processes: Processes,
) -> None:  # fmt: skip
    """Train and evaluate systems; with `--all` also compare and explain them.

    Of several processes the main one chooses the runs' folders, measures and draws.

    Raises RuntimeError at the end with what failed, and with `left_out`, what lacked its files.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    series = Series(command, faces, further, device, command.home, command.resume, stamp, processes)
    runs = runs_of(series, recipes, command.seeds)
    if processes.main and command.resume and not any(run.folder.exists() for run in runs):
        raise UsageError(nothing_to_resume(runs))
    folders = processes.from_main(lambda: [run.folder for run in runs])
    runs = [replace(run, folder=folder) for run, folder in zip(runs, folders, strict=True)]
    done, failed = train_runs(runs, command.final, command.resume, again)
    if not processes.main:
        return
    failed = [*left_out, *failed]
    if command.all or failed:
        draw_maps(done, faces, command.home, device)
        path = comparison.compare(command.home / "results")
        print(f"\n{path.read_text(encoding='utf-8')}\nwrote {path}")
    if failed:
        raise RuntimeError("\n".join(failed))


def runs_of(series: Series, recipes: Mapping[str, Recipe], seeds: int) -> list[Run]:
    """The runs of a series, each system with each of its seeds."""
    first = series.command.seed
    return [
        series.run(name, recipe, seed)
        for name, recipe in recipes.items()
        for seed in range(first, first + seeds)
    ]


def nothing_to_resume(runs: Sequence[Run]) -> str:
    """What was looked for, and which runs there are instead."""
    run = runs[0]
    folder = run.out / "runs"
    others = sorted({"/".join(path.parts[-4:-1]) for path in folder.glob(f"*/*/*/*/{STATE}")})
    there = f"runs there: {', '.join(others)}" if others else f"{folder} holds no run"
    return (
        f"--resume: no run of {run.name} on {run.faces.name} with seed {run.seed} was begun below "
        f"{folder} ({there}). Without --resume it is trained from the start"
    )


def train_runs(
    runs: Sequence[Run], final: bool, resume: bool, again: str
) -> tuple[list[Path], list[str]]:
    """Train and evaluate each: (checkpoints, sentences on what failed). A lone run that fails
    raises; one of several does not stop the others, unless several processes train it: the
    others of them could not know that this one is at the next run."""
    done: list[Path] = []
    failed: list[str] = []
    several = len({run.name for run in runs}) > 1
    for run in runs:
        if several and run.knows_data():
            print(f"{run.stem} left out: {run.recipe.weights} was trained on these very faces")
            continue
        if several and run.lacks_votes():
            print(f"{run.stem} left out: it learns from votes; join FER+'s file with --votes PATH")
            continue
        try:
            print(f"wrote {train_one(run, resume, final)} and {run.checkpoint}", flush=True)
            if run.recipe.fine_tune and run.processes.main:
                write_onnx(run.checkpoint)
            done.append(run.checkpoint)
        except (OSError, ValueError, FloatingPointError, RuntimeError) as error:
            if not several or run.processes.several:
                raise
            failed.append(f"{run.stem} did not run: {error}")
            print(failed[-1], file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            if not run.processes.main:
                raise SystemExit(1) from None
            kept = (run.folder / STATE).exists() or bool(done)
            how = f"go on with: {again}" if kept else "no epoch had ended, nothing is kept"
            raise SystemExit(f"\n{run.stem} interrupted; {how}") from None
    return done, failed


def train_one(run: Run, resume: bool, final: bool) -> Path:
    """Train (or find trained) and evaluate one run; returns the folder of its results."""
    rule, main = preprocess(run.recipe), run.processes.main
    classical = run.recipe.system in SVM_SYSTEMS  # no epochs: one process trains it
    finished = run.processes.from_main(lambda: resume and is_finished(run))
    with TensorBoardLog(run.folder / "board", run.faces.class_names, rule) as log:
        if not finished:
            print(f"\n{run.stem}  →  {run.folder}", flush=True)
            if main or not classical:
                (train_svm if classical else train_network)(run, log)
        if not main:
            return run.folder
        finish_run(run)
        return evaluation.evaluate(run.checkpoint, run.faces, run.out, run.device, log, final=final)


def make_flagship(
    command: Flagship, recipes: Mapping[str, Recipe], faces: Faces, further: tuple[Faces, ...],
    device: torch.device, again: str,
) -> Path:  # fmt: skip
    """Every seed trained and evaluated below out/flagship, the best one exported, all averaged.

    A seed that is done is not trained again; one cut short goes on.
    """
    home = command.home / "out" / "flagship"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    series = Series(command, faces, further, device, home, True, stamp)
    stem = command.to or f"{command.system}-{data_name(faces, further)}"
    trained = whole_files(home / "checkpoints", "*.safetensors")
    flagship.check_target(command.home, stem, trained)
    runs = runs_of(series, recipes, command.seeds)
    done, _ = train_runs(runs, command.final, True, again)
    reports = [home / "results" / path.stem for path in done]
    best = flagship.export(reports, command.home, stem)
    if len(done) > 1:
        flagship.ensemble(done, faces, command.home, device, final=command.final)
    return best
