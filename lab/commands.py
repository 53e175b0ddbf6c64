"""What each command of `experiments.py` does, from its options to the files that it writes.

Nothing below this module sees the command line: it hands on plain values and recipes.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from expression.file_kinds import is_url
from lab import (
    calibrated_checkpoint,
    comparison,
    evaluation,
    flagship,
    label_noise,
    matrix,
    publishing,
    robustness,
    weight_averaging,
)
from lab.checks import UsageError, check_all_files, check_device, check_paths
from lab.data import Faces, read
from lab.explanation import draw_maps
from lab.from_checkpoint import settled
from lab.further_data import read_further, split_name
from lab.large_data import check_large, write_packed
from lab.options import (
    Average,
    Calibrate,
    Command,
    Compare,
    Crop,
    Data,
    Ensemble,
    Evaluate,
    Explain,
    Flagship,
    LabelNoise,
    Matrix,
    Pack,
    Publish,
    Robustness,
    Settings,
    Train,
)
from lab.processes import ALONE, Processes, joined, launched, local_device
from lab.ranges import out_of_range
from lab.recipe import Recipe
from lab.recording import data_words
from lab.series import make_flagship, train
from lab.whole_photos import check_pictures, crop_of, cut_faces

__all__ = ["run_command"]


def run_command(command: Command, recipes: Mapping[str, Recipe], again: str) -> None:
    """As `carry_out`, in this process or among those that a launcher started."""
    count = launched()
    if count == 1:
        carry_out(command, recipes, again, ALONE)
        return
    if not isinstance(command, Train):
        raise UsageError(f"only `train` works on several processes; {count} were started")
    command = replace(command, device=local_device(command.device))
    with joined(check_device(command.device)) as processes:
        carry_out(command, recipes, again, processes)


def carry_out(
    command: Command, recipes: Mapping[str, Recipe], again: str, processes: Processes
) -> None:
    """Do what a command asks; `recipes` are those of its systems, `again` resumes it.

    Raises UsageError before any data are loaded for what the options cannot mean; OSError,
    ValueError, FloatingPointError or RuntimeError for what goes wrong later.
    """
    if isinstance(command, Compare):
        print(f"wrote {comparison.compare(command.out / 'results')}")
        return
    if isinstance(command, Publish):
        publishing.publish(command.checkpoint, command.to, command.space, command.yes)
        return
    if said := out_of_range(vars(command)):
        raise UsageError(said)
    check_large(command, recipes)
    device = check_device(command.device)
    left_out: list[str] = []
    if isinstance(command, Settings):
        recipes, left_out = check_all_files(recipes)
        recipes = {name: settled(name, recipe, command.data) for name, recipe in recipes.items()}
    elif not isinstance(command, Pack | Crop):
        if not (command.checkpoints or isinstance(command, LabelNoise)):
            raise UsageError("which checkpoint? None is named")
        found = check_paths("checkpoint", command.checkpoints)
        command = replace(command, checkpoints=found)
    if isinstance(command, Calibrate):
        calibrated_checkpoint.target_of(command.home, command.checkpoints, command.to)
    if isinstance(command, Average):
        weight_averaging.check_request(
            command.home, command.checkpoints, command.shares, command.to
        )
    if command.votes and not is_url(command.votes):
        check_paths("--votes", [command.votes])
    check_paths("--cleaned-labels", [command.cleaned_labels] if command.cleaned_labels else [])
    with processes.first_here():
        faces = load(command)
        further = read_further(command.also, command.strict)
        if not isinstance(command, Crop):  # what is measured is what is used, as what is learnt
            starts = [r.init_from for r in recipes.values() if r.fine_tune]
            check_pictures(faces, command.data, crop_of(starts[0]) if starts else None)
            for own, word in zip(further, command.also, strict=True):
                check_pictures(own, split_name(word)[1])
    match command:
        case Train():
            train(command, recipes, faces, further, device, again, left_out, processes)
        case Flagship():
            best = make_flagship(command, recipes, faces, further, device, again)
            print(f"exported {best}")
        case Pack():
            print(f"wrote {write_packed(command, faces)}")
        case Crop():
            folder = command.to or Path(f"{faces.name}_faces")
            print(cut_faces(faces, command.like, folder).words(folder))
        case Ensemble():
            way = "tta18" if command.shifts else "flip"
            folder = flagship.ensemble(
                command.checkpoints, faces, command.home, device, way, command.final
            )
            print(f"wrote {folder}")
        case Evaluate():
            ways = ("plain", "flip", "tta18") if command.shifts else ("plain", "flip")
            for path in command.checkpoints:
                done = evaluation.evaluate(
                    path, faces, command.home, device, ways=ways, final=command.final
                )
                print(f"wrote {done}")
                draw_maps([path], faces, command.home, device)
        case Matrix():
            words = ["python experiments.py matrix", *data_words(command)]
            text = " ".join([*words, *(["--final"] if command.final else [])])
            setup = matrix.Setup((faces, *further), command.home, device, text, command.final)
            for sentence in matrix.measure(command.checkpoints, setup):
                print(sentence, file=sys.stderr)
        case Average():
            average(command, faces, further, device)
        case Calibrate():
            calibrate(command, faces, further, device)
        case Explain():
            draw_maps(command.checkpoints, faces, command.home, device)
        case Robustness():
            for path in command.checkpoints:
                for file in robustness.measure(
                    path, faces, command.home, device, command.limit, command.final
                ):
                    print(f"in {file}")
        case LabelNoise():
            doubt_labels(command, faces, device)


def load(command: Data) -> Faces:
    """The data that the options name; `read` is told of votes and cleaned labels where given."""
    if command.streaming:
        from lab.streaming import read_streamed  # brings `datasets`: packed files need none

        return read_streamed(command.data or "", command.name, command.strict)
    given = {"votes": command.votes, "cleaned_labels": command.cleaned_labels}
    files: dict[str, Any] = {name: path for name, path in given.items() if path}
    return read(command.data, command.name, command.classes, command.strict, **files)


# --- measuring ---


def doubt_labels(command: LabelNoise, faces: Faces, device: torch.device) -> None:
    """Compare labels with votes, and list those that crowd and networks contradict."""
    if command.cleaned_labels:
        raise UsageError("label_noise doubts the labels as published; leave out --cleaned-labels")
    for file in label_noise.label_noise(
        faces, command.checkpoints, command.head, command.home, device
    ):
        print(f"wrote {file}")


def average(command: Average, faces: Faces, further: Sequence[Faces], device: torch.device) -> None:
    """Write the mean of several checkpoints' weights as a new one."""
    paths = command.checkpoints
    target, shares = weight_averaging.check_request(command.home, paths, command.shares, command.to)
    words = ["python experiments.py average", *(f"checkpoints/{path.name}" for path in paths)]
    words += ["--shares", *(f"{share:g}" for share in shares), *data_words(command)]
    words += ["--to", target.stem]
    weight_averaging.write_average(paths, shares, faces, further, target, device, " ".join(words))
    print(f"wrote {target} and its .md")


def calibrate(
    command: Calibrate, faces: Faces, further: Sequence[Faces], device: torch.device
) -> None:
    """Choose and calibrate the answer of a checkpoint, written as a new one."""
    (checkpoint,) = command.checkpoints
    words = ["python experiments.py calibrate", f"checkpoints/{checkpoint.name}"]
    words += [*data_words(command), *(["--to", command.to] if command.to else [])]
    target = calibrated_checkpoint.target_of(command.home, command.checkpoints, command.to)
    calibrated_checkpoint.write_calibrated(
        checkpoint, faces, further, target, device, " ".join(words)
    )
    print(f"wrote {target}, its .onnx and its .md")
