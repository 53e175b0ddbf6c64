"""All runs side by side: results/RESULTS.md and a figure a data set, from the JSONs alone."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib.pyplot as plt

from lab import metrics, plots
from lab.recipes import RECIPES, with_current_names

__all__ = ["compare", "table"]

# What the projects that these systems come from report of them: (split, accuracy). Theirs may
# have been chosen on the split they report.
PUBLISHED = {
    "baseline_cnn-fer2013": ("validation", 0.5203),
    "attention_cnn-fer2013": ("validation", 0.6256),
    "vit_tiny-fer2013": ("validation", 0.6985),
    "gray_resnet-fer2013_4": ("test", 0.60),
}
HEAD = (
    "| System | Validation k/n (95 %) | Test k/n (95 %) | Test, mirrored too | Macro F1 | "
    "Theirs | Parameters | Minutes | How far |\n|---|---|---|---|---|---|---|---|---|"
)
INTRO = """# Results

Written by `python experiments.py compare` from the JSON files in this folder; every row is one
checkpoint, measured in half precision as it is shipped. The epoch was chosen on validation, the
test split was read once, at the end. Intervals are Wilson's, at 95 %: two rows whose intervals
overlap much cannot be told apart. "Mirrored too" averages each face with its mirror image; "18
views" both of them also moved to the eight neighbouring places, a 24th of the side away.
"Theirs" is what the project that a system comes from reports, on the split named."""


@dataclass(frozen=True)
class Row:
    """One results JSON, read."""

    path: Path
    content: dict[str, Any]

    @property
    def name(self) -> str:  # of the recipe
        return self.path.stem.removesuffix(f"-seed{self.content['seed']}").rsplit("-", 1)[0]

    @property
    def data(self) -> str:
        return self.content["data"]["name"]

    @property
    def key(self) -> str:
        return f"{self.name}-{self.data}"

    def count(self, split: str, way: str = "plain") -> str:
        if split not in self.content:
            return "–"
        figures = self.content[split][way]
        return metrics.percent(figures["k"], figures["n"])

    def how_far(self) -> str:
        """Epochs beside those of the published settings, and what else sets this run apart."""
        recipe, words = with_current_names(self.content["recipe"]), []
        if history := self.content.get("history"):
            words.append(f"{len(history['val_loss'])} epochs, best {self.content['epoch'] + 1}")
            usual = RECIPES[self.name].epochs if self.name in RECIPES else 0
            if usual and recipe["epochs"] < usual:
                words[-1] += f" (published settings: up to {usual})"
        if recipe.get("limit"):
            words.append(f"**{recipe['limit']} training faces only**")
        if recipe.get("init_from"):
            epochs = " and ".join(str(stage["epochs"]) for stage in self.content["stages"])
            words.append(f"goes on from a network of {epochs} epochs")
        if recipe.get("weights"):
            words.append(f"starts from {Path(recipe['weights']).stem} weights")
        elif self.content["system"] == "vit_tiny":
            words.append("random start, no ImageNet weights")
        if recipe.get("teacher"):
            teachers = " and ".join(Path(t).stem for t in recipe["teacher"].split(","))
            words.append(f"taught by {teachers}")
        return "; ".join(words) or "to the end"


def read(results: Path) -> list[Row]:
    """Every run's JSON in the folder, best validation accuracy first within its data set."""
    rows = []
    for path in sorted(results.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if {"recipe", "validation", "data"} <= content.keys():
            rows.append(Row(path, content))
    return sorted(
        rows, key=lambda r: (r.data, -r.content["validation"]["plain"]["accuracy"], r.key)
    )


def published(row: Row) -> str:
    split, share = PUBLISHED.get(row.key, ("", 0.0))
    return f"{100 * share:.2f} % ({split})" if split else "–"


def line(row: Row, seeds: list[Row]) -> str:
    """A row of the table; with several seeds it is the first one's, and says their mean."""
    content = row.content
    test = row.count("test")
    shown = shown_split(content)
    if f"{shown}_plain" in content.get("all_seeds", {}):
        values = [100 * v for v in content["all_seeds"][f"{shown}_plain"]["values"]]
    else:
        values = [100 * r.content[shown]["plain"]["accuracy"] for r in seeds if shown in r.content]
    if len(values) > 1:
        test += f"; {len(values)} seeds {mean(values):.1f} ± {stdev(values):.1f} %"
    cells = [
        f"`{row.name}`",
        row.count("validation"),
        test,
        views(content[shown]),
        f"{content[shown]['plain']['macro_f1']:.3f}",
        published(row),
        f"{content['parameters']:,}",
        f"{content['minutes']:.1f}",
        row.how_far(),
    ]
    return "| " + " | ".join(cells) + " |"


def shown_split(content: dict[str, Any]) -> str:
    """The split whose figures a row shows: test once it was opened, validation until then."""
    return "test" if "test" in content else "validation"


def views(test: dict[str, Any]) -> str:
    """Test accuracy with the mirror image, and over eighteen views where that was measured."""
    cell = f"{100 * test['flip']['accuracy']:.1f} %"
    return cell + (f"; 18 views {100 * test['shift']['accuracy']:.1f} %" if "shift" in test else "")


def by_system(rows: list[Row]) -> list[list[Row]]:
    """The seeds of each system, the first of them first; best on validation first."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda r: r.content["seed"]):
        groups.setdefault(row.key, []).append(row)
    return sorted(
        groups.values(), key=lambda seeds: -seeds[0].content["validation"]["plain"]["accuracy"]
    )


def table(rows: list[Row]) -> str:
    """The rows of one data set as Markdown, the majority class last."""
    lines = [HEAD, *(line(seeds[0], seeds) for seeds in by_system(rows))]
    cells = [
        f"{100 * rows[0].content[s]['plain']['majority']:.1f} %" if s in rows[0].content else "–"
        for s in ("validation", "test")
    ]
    lines.append(f"| most frequent class | {' | '.join(cells)} | | | | | | |")
    return "\n".join(lines)


def missing(rows: list[Row]) -> list[str]:
    """The systems that were not run on these data, in a sentence; nothing when all were."""
    absent = [f"`{name}`" for name in RECIPES if name not in {row.name for row in rows}]
    return [f"Not run on these data: {', '.join(absent)}."] if absent else []


def together(path: Path) -> list[str]:
    """What several networks reach when their probabilities are averaged, in a sentence."""
    if not path.exists():
        return []
    told = json.loads(path.read_text(encoding="utf-8"))
    figures = {
        s: metrics.percent(told[s]["k"], told[s]["n"]) if s in told else "–"
        for s in ("validation", "test")
    }
    members = ", ".join(f"`{name}`" for name in told["members"])
    seen = "18 views of a picture" if told.get("way") == "shift" else "mirror images too"
    return [
        f"Averaged, {seen} ({members}): validation {figures['validation']}, test {figures['test']}."
    ]


def commands(rows: list[Row]) -> str:
    """What made each row, and on what machine."""
    return "\n".join(
        f"- `{row.path.stem}`: `{row.content['command']}` (revision {row.content['revision']}, "
        f"{row.content['hardware']})"
        for row in rows
    )


def draw(rows: list[Row], data: str, path: Path) -> None:
    shown = []
    for row, *_ in by_system(rows):
        figures = row.content[shown_split(row.content)]["plain"]
        shown.append({"name": row.name, "accuracy": figures["accuracy"],
                      "interval_95": tuple(figures["interval_95"])})  # fmt: skip
        split, share = PUBLISHED.get(row.key, ("", 0.0))
        if split:
            shown[-1] |= {"published": share}
    best = max(shown, key=lambda s: s["accuracy"])
    last = shown_split(rows[0].content)
    majority = rows[0].content[last]["plain"]["majority"]
    figure = plots.comparison(
        shown,
        f"{data}, {last}: {best['name']} leads with {100 * best['accuracy']:.1f} %. "
        "Bars are 95 % intervals; diamonds are what others report of the same system.",
        baseline=majority,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def compare(results: Path) -> Path:
    """Write RESULTS.md and comparison-DATA.png beside the JSONs; returns the former's path.

    Raises FileNotFoundError when the folder holds no run.
    """
    rows = read(results)
    if not rows:
        raise FileNotFoundError(f"no results in {results}; make some with `experiments.py train`")
    parts = [INTRO]
    for data in dict.fromkeys(row.data for row in rows):
        here = [row for row in rows if row.data == data]
        names = ", ".join(here[0].content["class_names"])
        figure = f"comparison-{re.sub(r'[^a-zA-Z0-9_.-]', '_', data)}.png"
        draw(here, data, results / figure)
        parts += [
            f"## {data}: {names}",
            f"![Systems on {data} with their intervals]({figure})",
            table(here),
            *together(results / f"ensemble-{data}.json"),
            *missing(here),
            "Figures, report and maps of each run lie in the folder of its name. Made by:",
            commands(here),
        ]
    path = results / "RESULTS.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path
