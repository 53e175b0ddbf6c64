"""Write the README's table from results/*.json, so that it quotes nothing else.

python tools/results_table.py            # print it
python tools/results_table.py --write    # put it into README.md
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import report  # noqa: E402
from lab.metrics import percent  # noqa: E402

__all__ = ["replace", "table"]

HEAD = """| Model | Trained | Validation | Test k/n (95 % CI) | Seeds | Minutes, hardware | Where |
|---|---|---|---|---|---|---|"""
LABORATORY = {
    "expression-fer2013": "ResNet9 on FER2013, seven classes: what the demo serves",
    "expression_small-fer2013": "A small ResNet9 on FER2013, for little time",
    "attention_cnn-fer2013": "Attention CNN on FER2013, seven classes",
    "resnet18-fer2013": "ResNet18 on FER2013, seven classes",
    "gray_resnet-fer2013_4": "Gray ResNet on FER2013, merged to four classes",
}
START, END = "<!-- table: tools/results_table.py --write -->", "<!-- end of table -->"
SPEED, SPEED_END = "<!-- speed: tools/results_table.py --write -->", "<!-- end of speed -->"


def count(figures: dict[str, Any]) -> str:
    return percent(figures["k"], figures["n"])


def seen(test: dict[str, Any]) -> str:
    """Test figures of a laboratory run, and over eighteen views of a face where measured."""
    more = f"; 18 views {100 * test['shift']['accuracy']:.1f} %" if "shift" in test else ""
    return count(test["plain"]) + more


def average(values: list[float]) -> str:
    return f"{100 * mean(values):.1f} % (mean; {100 * min(values):.1f}–{100 * max(values):.1f})"


def table(results: Path = ROOT / "results") -> str:
    """The table as Markdown, from the notebook's run and the best of the laboratory's."""
    story = json.loads((results / "notebook-small_expressions.json").read_text(encoding="utf-8"))
    chosen, hardware = story["chosen"], f"{story['device'].upper()}, {story['threads']} threads"
    shared = f"{story['minutes']:.0f} for the whole notebook, {hardware}"
    rows = [
        ("majority class", "–", f"{100 * story['majority_validation']:.1f} %", "–", "–", "–", "§1"),
        (
            "TinyVGG",
            "from scratch",
            average(story["batchnorm"]["val_accuracy"]["BatchNorm"]),
            "–",
            str(len(story["seeds"])),
            shared,
            "§3",
        ),
    ]
    for name, values in story["heads"].items():
        rows.append(
            (
                name.replace(", ", ", weights of "),
                "head only",
                average(values),
                "–",
                str(len(values)),
                "same run",
                "§8",
            )
        )
    rows.append(
        (
            "ResNet18, weights of FER2013",
            "head, then last two stages",
            average(story["fine_tuned"]),
            "–",
            str(len(story["fine_tuned"])),
            "same run",
            "§9",
        )
    )
    rows.append(
        (
            "the best of these on validation",
            "exported",
            count(chosen["validation"]),
            count(chosen["test"]),
            "1",
            "same run",
            "§10",
        )
    )
    for stem, name in LABORATORY.items():
        run = json.loads((results / f"{stem}.json").read_text(encoding="utf-8"))
        stages = [*run.get("stages", ()), {**run, "epochs": run["recipe"]["epochs"]}]
        epochs = " + ".join(str(stage["epochs"]) for stage in stages)
        minutes = " + ".join(f"{stage['minutes']:.0f}" for stage in stages)
        rows.append(
            (
                f"**{name}**",
                f"from scratch, {epochs} epochs",
                count(run["validation"]["plain"]),
                seen(run["test"]),
                "1",
                f"{minutes}, {run['hardware']}",
                "[results](results/RESULTS.md)",
            )
        )
    return "\n".join([HEAD, *("| " + " | ".join(row) + " |" for row in rows)])


def replace(text: str, new: str, start: str = START, end: str = END) -> str:
    """`text` with what stands between the two marks replaced by `new`."""
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"README.md has no {start} … {end}")
    return f"{before}{start}\n\n{new}\n\n{end}{after}"


def whole(text: str) -> str:
    """The README with both of its tables as the JSON files give them."""
    return replace(replace(text, table()), report.quoted(), SPEED, SPEED_END)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put it into README.md")
    if parser.parse_args().write:
        readme = ROOT / "README.md"
        readme.write_text(whole(readme.read_text(encoding="utf-8")), encoding="utf-8")
    print(table())
