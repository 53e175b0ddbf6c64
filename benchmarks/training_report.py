"""What benchmarks/README.md says of training: a section for each JSON file of these programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    budget_summary,
    finetuning,
    growth,
    harness,
    loop,
    speedrun,
    step,
    trainers,
    trial_summary,
)

__all__ = ["SECTIONS"]


def loop_section(told: dict[str, Any]) -> str:
    return f"""## Training: the loop compared with the bare step

`python -m benchmarks.loop --data path/to/fer2013` ({harness.described(told)}). The bare step is
forward, loss, backward and optimizer on a batch that is already in place, in channels_last. The
training loop takes its batches from `Batches`, augments every picture, counts and checks.

{loop.table(told)}"""


def growth_section(told: dict[str, Any]) -> str:
    return f"""## Training: more pictures

`python -m benchmarks.growth --data path/to/fer2013` ({harness.described(told)}). TinyVGG on
FER2013's training pictures, repeated; the same number of steps for every size. The decoded pictures
are a mapped file, whose pages the system can take back; the peak memory is without them.

{growth.table(told)}"""


def trainers_section(told: dict[str, Any]) -> str:
    settings = told["settings"]
    epochs = max(len(row.get("rates", ())) for row in told["rows"])
    return f"""## Training: compared with other trainers

`python -m benchmarks.trainers --data path/to/fer2013` ({harness.described(told)}). TinyVGG,
{settings["size"]} px, {settings["pictures"]:,} pictures, batches of {settings["batch_size"]},
AdamW; medians of {epochs} epochs, {settings["runs"]} in each round of all rows. "Plain" is a
DataLoader that opens and augments each picture by itself; "Batches" is this repository's loader.

{trainers.table(told)}"""


def step_section(told: dict[str, Any]) -> str:
    return f"""## Training: the step itself

`python -m benchmarks.step` ({harness.described(told)}). "/ plain" and "/ channels_last" are medians
of the ratios within each round. The recipes train and the demo serves in channels_last because of
this table; bfloat16 is chosen only on hardware made for it.

{step.table(told)}"""


def speedrun_section(told: dict[str, Any]) -> str:
    return f"""## FER2013 speedrun

`python -m benchmarks.speedrun --data path/to/fer2013 --target 65 --seeds 5 --final`. Mean and
standard deviation over the seeds. Everything was chosen on PublicTest (validation); PrivateTest
(test) was read once a seed, after the last epoch.

{speedrun.table(told)}"""


def trials_section(told: dict[str, Any]) -> str:
    recipe = told["settings"]["recipe"]
    return f"""## Paired trials of training settings

`python -m benchmarks.trials --data path/to/fer2013 --votes path/to/fer2013new.csv --also
path/to/muxspace` ({harness.described(told)}). A short schedule: {recipe["epochs"]} epochs at
{recipe["size"]} px of a small ResNet9. The first row gives the base's figures on validation splits,
the others what a setting adds to them with the same seeds: the mean difference and, from two seeds
on, its paired 95 % t interval, bold where that leaves out 0. Of {len(told["arms"])} rows times five
figures about one in twenty would do so by chance. No arm trained on Muxspace. Minutes are the
clock's, of a machine that did other work too and stood still at times.

{trial_summary.table(told)}

Each head alone, by what it was made for:

{trial_summary.head_table(told)}"""


def cleaned_labels_section(told: dict[str, Any]) -> str:
    settings = told["settings"]
    return f"""## What cleaned labels buy

`python -m benchmarks.cleaned_labels --data path/to/fer2013 --votes path/to/fer2013new.csv --also
path/to/muxspace` ({harness.described(told)}). `{settings["file"]["name"]}` replaces
{settings["replaced"]:,} of {settings["of"]:,} training labels, those that the crowd and a network
contradict. A small ResNet9 with the head of labels alone, {settings["recipe"]["epochs"]} epochs at
{settings["recipe"]["size"]} px, float32, the last epoch kept; nothing trained on Muxspace.
Validation labels stay as published. The second row is the mean difference of pairs with the same
seed and its 95 % t interval, bold where that leaves out 0.

{trial_summary.table(told)}"""


def worse_pictures_section(told: dict[str, Any]) -> str:
    settings = told["settings"]
    recipe = settings["recipe"]
    return f"""## What training on worse pictures buys

`python -m benchmarks.worse_pictures --data path/to/fer2013 --votes path/to/fer2013new.csv --also
path/to/muxspace` ({harness.described(told)}). The paired trials' network and schedule
({recipe["epochs"]} epochs at {recipe["size"]} px, heads for labels and votes). Accuracy on worse
pictures is the mean over nine corruptions at five severities, on {settings["judged_on"]:,}
validation faces that are not in train. Of the nine, darkness, blur and noise are what the second
network trained on, shift and scale what both did, JPEG, low resolution and covers what neither did.
The second row is the mean difference of pairs with the same seed and its 95 % t interval, bold
where that leaves out 0.

{trial_summary.table(told)}"""


def finetuning_section(told: dict[str, Any]) -> str:
    settings = told["settings"]
    recipe = settings["recipe"]
    return f"""## What a folder of one's own buys

`python -m benchmarks.finetuning --data path/to/muxspace` ({harness.described(told)}). The recipe of
`experiments.py train finetune`, {recipe["epochs"]} epochs at a rate of up to {recipe["lr"]:g}, from
`{Path(settings["start"]).stem}`, which has seen no face of Muxspace. Some training faces
of each class are drawn, a tenth of them for validation, {" and ".join(settings["left_out"])} left
out. Measured on all {settings["judged_on"]:,} validation faces of these classes, which show other
people. "Other names" are words that no network knows, so that each class is learnt anew.
Mean ± standard deviation over seeds, which draw other faces. Rate and epochs were chosen among ten
settings, on these validation faces too.

{finetuning.table(told)}"""


def equal_budget_section(told: dict[str, Any]) -> str:
    settings, splits = told["settings"], told["splits"]
    share = f"{100 * settings['tolerance']:.0f} %"
    left_out = ";\n".join(f"`{name}` {reason}" for name, reason in settings["left_out"].items())
    pairs = max(len(found["neighbours"]) for found in splits.values())
    final = " --final" if told["openings"] else ""
    looks = f"opened {len(told['openings'])} times" if final else "not opened"
    tables = "\n\n".join(
        f"{split.capitalize()} ({max(row['n'] for row in found['rows'].values()):,} faces):\n\n"
        f"{budget_summary.table(told, split)}"
        for split, found in splits.items()
    )
    return f"""## Every system with the same minutes

`python -m benchmarks.equal_budget --data path/to/fer2013 --minutes {settings["minutes"]:g}{final}`
({harness.described(told)}). Each system trains from random weights on the labels of
{settings["data"]} for {settings["minutes"]:g} minutes: as many epochs as fit by a few timed steps,
the same number for every seed, one cycle of the learning rate, float32, the last epoch kept, one
view of each face. Everything else is as in its recipe; nothing was tuned to this budget, and other
minutes may give another order. Mean ± standard deviation over the seeds. Planned minutes are
processor time, the minutes taken were read from the clock while other programs may have run or the
training stood still. A
system whose plan lies more than {share} below the budget has no place in the ranking: one epoch
more would not fit, or there are no more faces. A system without epochs sees as many faces as fit.

Each is compared with the next in the ranking: the mean difference with a 95 % bootstrap interval
over seeds and faces, bold where it leaves out 0; and McNemar's exact test of the first seeds'
networks, with the number of faces that each alone answers right. Intervals and p are not corrected
for the number of pairs, {pairs}.

{tables}

The test split of {settings["data"]} was {looks} for this table. Left out, because the labels of
the data are not enough for them, or the minutes:
{left_out}."""


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "loop": loop_section,
    "growth": growth_section,
    "trainers": trainers_section,
    "step": step_section,
    "speedrun": speedrun_section,
    "trials": trials_section,
    "cleaned_labels": cleaned_labels_section,
    "worse_pictures": worse_pictures_section,
    "finetuning": finetuning_section,
    "equal_budget": equal_budget_section,
}
