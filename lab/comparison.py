"""RESULTS.md, a figure for each data set, and the cards: all rewritten from results/."""

import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from lab import (
    label_noise_report,
    matrix_page,
    model_card,
    plots,
    reports,
    robustness_report,
)
from lab.metrics import VIEW_WORDS, wilson
from lab.reports import Row
from lab.results import Results

__all__ = ["compare"]

INTRO = f"""# Results

Written by `python experiments.py compare` from the files in this folder. Every row is one
checkpoint, measured in half precision as it is shipped. k/n is right answers of faces, with
Wilson's 95 % interval: two rows whose intervals overlap much cannot be told apart. Epochs were
chosen on validation; the test split is opened by `--final` alone, and each section says how often
that was (openings by the programs in `benchmarks/` are told there).
“{VIEW_WORDS["flip"].capitalize()}” averages each face with its mirror image; `tta18` is
{VIEW_WORDS["tta18"]}: both also moved to the eight neighbouring places, a 24th of the side away.
“Published” is what the project that a system comes from reports, on the split named. Minutes
and epochs are those of all stages of a training."""


def compare(results: Path) -> Path:
    """Write RESULTS.md and comparison-DATA.png into `results`, and the cards beside the
    checkpoints next to it; returns RESULTS.md's path.

    Raises FileNotFoundError when the folder holds no result.
    """
    kept, checkpoints = Results(results), results.parent / "checkpoints"
    rows = reports.read(kept)
    if not rows:
        raise FileNotFoundError(f"no results in {results}; make some with `experiments.py train`")
    parts = [INTRO]
    for data in dict.fromkeys(row.data for row in rows):
        here = [row for row in rows if row.data == data]
        parts += section(data, here, kept, checkpoints)
    parts += robustness_report.section(results)
    parts += label_noise_report.section(results, rows)
    path = results / "RESULTS.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    matrix_page.write(kept)
    model_card.write_all(checkpoints, kept)
    return path


def section(data: str, here: list[Row], kept: Results, checkpoints: Path) -> list[str]:
    """What RESULTS.md says of one data set."""
    rows = [row for row in here if not row.network.members]
    together = [row for row in here if row.network.members]
    if not rows:
        return [f"## {data}", *reports.ensembles(together)]
    names = next(iter(rows[0].results.values())).evaluation.class_names
    figure = f"comparison-{re.sub(r'[^a-zA-Z0-9_.-]', '_', data)}.png"
    draw(rows, data, kept.folder / figure)
    return [
        f"## {data}: {', '.join(names)}",
        f"![Systems on {data} with their intervals]({figure})",
        reports.openings_sentence(kept.openings(), data),
        *reports.duplicates_sentence(rows),
        reports.table(rows),
        *reports.ensembles(together),
        *reports.missing(rows),
        "Figures, report and maps of each run lie in the folder of its name. Made by:",
        reports.commands(rows, checkpoints),
    ]


def draw(rows: list[Row], data: str, path: Path) -> None:
    """Systems by accuracy: on the test split where it was opened, else on validation."""
    first = {name: seeds[0] for name, seeds in reports.by_system(rows).items()}
    split = "test" if any(row.evaluation_of("test") for row in first.values()) else "validation"
    shown: list[dict[str, Any]] = []
    for name, row in first.items():
        if (told := row.evaluation_of(split)) is None:
            continue
        about = {"name": name, "accuracy": told.accuracy, "majority": told.majority}
        shown.append({**about, "interval_95": wilson(told.k, told.n)})
        _, share = reports.PUBLISHED.get(f"{row.recipe}-{data}", ("", 0.0))
        if share and row.at_home:
            shown[-1]["published"] = share
    if not shown:
        return
    best = max(shown, key=lambda s: s["accuracy"])
    figure = plots.comparison(
        shown,
        f"{data}, {split}: {best['name']} leads with {100 * best['accuracy']:.1f} %. Bars are 95 % "
        "intervals; diamonds are published figures of the same system, on the split that the table "
        "names.",
        baseline=shown[0]["majority"],
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
