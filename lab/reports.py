"""Text and tables from results/: what RESULTS.md and README.md say of the networks."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from augment import Augment
from expression.about import data_names
from lab.metrics import VIEW_WORDS, Evaluation
from lab.provenance import ancestors, totals
from lab.recipe import Recipe, with_current_names
from lab.recipes import RECIPES
from lab.results import SPLITS, MeasuredNetwork, Opening, Result, Results, file_sha256

__all__ = [
    "PUBLISHED",
    "Row",
    "by_system",
    "commands",
    "duplicates_sentence",
    "ensembles",
    "missing",
    "openings_sentence",
    "read",
    "seeds_told",
    "table",
]

# What the projects that these systems come from report of them: (split, accuracy). Their epoch
# may have been chosen on the split that they report.
PUBLISHED = {
    "baseline_cnn-fer2013": ("validation", 0.5203),
    "attention_cnn-fer2013": ("validation", 0.6256),
    "vit_tiny-fer2013": ("validation", 0.6985),
    "gray_resnet-fer2013_4": ("test", 0.60),
}


@dataclass(frozen=True, eq=False)
class Row:
    """One network on one data set."""

    network: MeasuredNetwork
    folder: str  # below results/
    data: str
    results: dict[tuple[str, str], Result]  # (split, views) → what was measured

    @property
    def card(self) -> dict[str, Any]:
        return self.network.card

    @property
    def seed(self) -> int:
        return self.card.get("seed", 0)

    @property
    def at_home(self) -> bool:
        """Whether these are the data that the network was trained on."""
        fingerprints = {result.key.fingerprint for result in self.results.values()}
        return fingerprints == {self.card["data"]["fingerprint"]}

    @property
    def recipe(self) -> str:
        """The recipe's name: that of the file without data and seed."""
        name = self.network.name.removesuffix(f"-seed{self.seed}")
        data = self.card["data"]
        names = [data["name"], *(further["name"] for further in data.get("further", ()))]
        return name.removesuffix("-" + "+".join(names))

    @property
    def trained_with(self) -> str:
        """The recipe that its command names: an exported network may have another name."""
        words = self.card.get("command", "").split()
        return next((word for word in words if word in RECIPES), self.recipe)

    @property
    def name(self) -> str:
        """As it stands in tables."""
        apart = self.folder != self.network.name
        which = f" ({self.network.sha256[:12]})" if apart else ""
        if not self.at_home:
            return f"{self.network.name}{which} (trained on {data_names(self.card)})"
        return self.recipe + which

    @property
    def learnt(self) -> str:
        """All that sets a training apart but its seed, as text: recipe, data, heads. What an older
        card's recipe does not say has today's default."""
        told = Recipe("").as_dict() | with_current_names(self.card.get("recipe", {}))
        told["augment"] = told["augment"] and asdict(Augment()) | told["augment"]
        heads = list(self.card.get("heads", ["label"]))
        return json.dumps([told, self.card["data"], heads], sort_keys=True)

    def evaluation_of(self, split: str, views: str = "plain") -> Evaluation | None:
        result = self.results.get((split, views))
        return result.evaluation if result else None

    def unseen(self, split: str, views: str = "plain") -> Evaluation | None:
        """Figures on faces that are not in train; None where all are, or it is not known."""
        result = self.results.get((split, views))
        if result is None or not self.at_home:
            return None
        unseen = result.unseen
        return unseen if unseen and unseen.n < result.evaluation.n else None

    def count(self, split: str) -> str:
        """'2523/3589 = 70.3 % (68.8–71.8); unseen 2264/3298 = 68.6 % (67.0–70.2)'."""
        told, unseen = self.evaluation_of(split), self.unseen(split)
        if told is None:
            return "–"
        return str(told) + (f"; unseen {unseen}" if unseen else "")

    @property
    def rank(self) -> float:
        """Accuracy on validation, by which rows are ordered."""
        told = self.evaluation_of("validation")
        return told.accuracy if told else 0.0


def read(kept: Results) -> list[Row]:
    """Every network of ours on every data set; best on validation first within its data.

    Other people's networks, people, and a crowd's majority as the label stand in MATRIX.md alone.
    """
    rows = []
    crowds = {mark for mark, notes in kept.data_notes().items() if notes.pictures_of}
    for network, results in kept.networks():
        if network.card.get("kind"):
            continue
        results = [result for result in results if result.key.fingerprint not in crowds]
        folder = kept.folder_of(network.name, network.sha256).name
        for data in sorted({(r.data, r.key.fingerprint) for r in results}):
            here = {r.key[2:]: r for r in results if (r.data, r.key.fingerprint) == data}
            rows.append(Row(network, folder, data[0], here))
    return sorted(rows, key=lambda row: (row.data, -row.rank, row.folder))


def by_system(rows: list[Row]) -> dict[str, list[Row]]:
    """The seeds of each system by its name, the one under the system's own name first; best first.

    Networks of one name that learnt from other data or other labels, or by another recipe (more
    epochs, say), are other systems, and go by the names of their folders.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda r: (len(r.folder), r.seed)):
        groups.setdefault((row.name, row.learnt), []).append(row)
    systems = sorted(groups.values(), key=lambda seeds: -seeds[0].rank)
    count = Counter(first.name for first, *_ in systems)
    return {
        first.name if count[first.name] == 1 else first.folder: [first, *others]
        for first, *others in systems
    }


def published(row: Row) -> str:
    split, share = PUBLISHED.get(f"{row.recipe}-{row.data}", ("", 0.0))
    return f"{100 * share:.2f} % ({split})" if split and row.at_home else "–"


def epochs_run(row: Row) -> str:
    """Epochs beside those of the recipe, and what else sets this run apart."""
    card, words = row.card, []
    recipe, earlier = card.get("recipe", {}), card.get("stages", ())
    if history := card.get("history"):
        own, usual = len(history["val_loss"]), 0
        if row.trained_with in RECIPES:
            usual = RECIPES[row.trained_with].epochs
        if earlier:
            counts = " + ".join(str(n) for n in (*(s["epochs"] for s in earlier), own))
            words.append(f"{counts} in {len(earlier) + 1} stages, best {card['epoch'] + 1} of the "
                         "last")  # fmt: skip
        else:
            of = f" of {usual}" if usual else ""
            words.append(f"{own}{of}, best {card['epoch'] + 1}")
    else:
        words.append("no epochs")
    if recipe.get("limit"):
        words.append(f"**{recipe['limit']} training faces only**")
    if recipe.get("weights"):
        words.append(f"starts from {Path(recipe['weights']).stem} weights")
    elif card.get("system") == "vit_tiny":
        words.append("random start, no ImageNet weights")
    if recipe.get("teacher"):
        teachers = " and ".join(Path(t).stem for t in recipe["teacher"].split(","))
        words.append(f"taught by {teachers}")
    return "; ".join(words)


def seeds_told(seeds: list[Row], split: str) -> str:
    """'3 seeds 71.5 ± 0.2 %': mean and spread of a split's accuracies; "" for a single one."""
    values = [100 * told.accuracy for seed in seeds if (told := seed.evaluation_of(split))]
    if len(values) < 2:
        return ""
    return f"{len(values)} seeds {mean(values):.1f} ± {stdev(values):.1f} %"


def line(name: str, seeds: list[Row], views: list[str]) -> str:
    """A row of the table, of the first seed; with several it also says their mean and spread."""
    row = seeds[0]
    shown = {split: row.count(split) for split in SPLITS}
    for split in SPLITS:
        if spread := seeds_told(seeds, split):
            shown[split] += f"; {spread}"
    test = row.evaluation_of("test")
    others = [row.evaluation_of("test", view) for view in views]
    cells = [
        f"`{name}`",
        shown["validation"],
        shown["test"],
        *(f"{100 * told.accuracy:.1f} %" if told else "–" for told in others),
        f"{test.macro_f1:.3f}" if test else "–",
        published(row),
        f"{row.network.parameters:,}",
        f"{totals(row.card)[0]:.1f}",
        epochs_run(row),
    ]
    return "| " + " | ".join(cells) + " |"


def table(rows: list[Row]) -> str:
    """The rows of one data set as Markdown, the most frequent class last."""
    measured = {view for row in rows for split, view in row.results if split == "test"}
    views = [view for view in ("flip", "tta18") if view in measured]
    headings = {"flip": f"Test, {VIEW_WORDS['flip']}", "tta18": "Test, `tta18`"}
    head = ["System", "Validation k/n (95 %)", "Test k/n (95 %)", *(headings[v] for v in views),
            "Macro F1 (test)", "Published", "Parameters", "Minutes",
            "Epochs run (of the recipe's)"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += [line(name, seeds, views) for name, seeds in by_system(rows).items()]
    told = [next((t for row in rows if (t := row.evaluation_of(split))), None) for split in SPLITS]
    majority = [f"{100 * t.majority:.1f} %" if t else "–" for t in told]
    rest = [""] * (len(head) - 3)
    lines.append("| " + " | ".join(["most frequent class", *majority, *rest]) + " |")
    return "\n".join(lines)


def missing(rows: list[Row]) -> list[str]:
    """The systems that were not run on these data, in a sentence; nothing when all were."""
    run = {name for row in rows if row.at_home for name in (row.recipe, row.trained_with)}
    usual = [name for name, recipe in RECIPES.items() if not recipe.fine_tune]
    absent = [f"`{name}`" for name in usual if name not in run]
    return [f"Not run on these data: {', '.join(absent)}."] if absent else []


def ensembles(rows: list[Row]) -> list[str]:
    """What networks reach when their probabilities are averaged, a sentence each."""
    lines = []
    for row in rows:
        members = ", ".join(f"`{name}`" for name in row.network.members)
        for view in dict.fromkeys(view for _, view in row.results):
            told = {split: row.evaluation_of(split, view) for split in SPLITS}
            figures = ", ".join(f"{split} {t}" for split, t in told.items() if t)
            lines.append(f"Probabilities averaged, {VIEW_WORDS[view]} ({members}): {figures}.")
    return lines


def duplicates_sentence(rows: list[Row]) -> list[str]:
    """How many faces are in the training split too, and what 'unseen' therefore means."""
    counts = {}
    for row in rows:
        for (split, _), result in row.results.items():
            if row.at_home and (unseen := row.unseen(split)):
                n = result.evaluation.n
                counts[split] = f"{n - unseen.n:,} of {n:,} {split} faces"
    if not counts:
        return []
    told = " and ".join(counts[split] for split in SPLITS if split in counts)
    return [f"{told} are in the training split too, pixel for pixel; “unseen” counts the others."]


def openings_sentence(openings: list[Opening], data: str) -> str:
    """How often the test split of these data was opened, for which files; from the log."""
    here = [opening for opening in openings if opening.data == data]
    if not here:
        return f"The test split of {data} has not been opened."
    files: dict[str, dict[str, int]] = {}
    for opening in here:
        each = files.setdefault(opening.checkpoint, {})
        each[opening.sha256] = each.get(opening.sha256, 0) + 1
    days = sorted({opening.date[:10] for opening in here})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    count = "1 opening" if len(here) == 1 else f"{len(here)} openings"
    sentence = f"The [log](test_openings.jsonl) has {count} of the test split of {data}, {when}."
    if later := sum(bool(opening.note) for opening in here):
        sentence += f" Of these, {later} were entered afterwards, with the date of their figures."
    several = [f"`{name}` {len(each)}" for name, each in files.items() if len(each) > 1]
    if several:
        sentence += (
            " Some names stood for one file after another, such as the stages of a training, and "
            f"each of these files was measured on it: {', '.join(several)} files."
        )
    return sentence


def commands(rows: list[Row], checkpoints: Path) -> str:
    """What made each row, on what machine, and whether that can be run here again."""
    present = {file_sha256(path) for path in checkpoints.glob("*.safetensors")}
    lines = []
    for row in rows:
        card = row.card
        command, revision, machine = (
            card.get(key, "not recorded") for key in ("command", "revision", "hardware")
        )
        lines.append(f"- `{row.folder}`: `{command}` (revision {revision}, {machine})")
        for number, stage in enumerate(card.get("stages", ()), 1):
            lines.append(f"  - stage {number}: `{stage['command']}` (revision {stage['revision']})")
        if reasons := not_runnable(row.network.name, card, present):
            lines.append(f"  - cannot be run again from these files: {'; '.join(reasons)}")
    return "\n".join(lines)


def not_runnable(name: str, card: dict[str, Any], present: set[str]) -> list[str]:
    """Why the commands of a network do not give it again: files that they need and lack."""
    reasons = []
    for digest, ancestor in ancestors(card).items():
        if digest not in present:
            reasons.append(f"`{ancestor}` with sha256 {digest[:16]}… is not in checkpoints/")
            if ancestor == name:  # a stage wrote to the file that it started from
                reasons[-1] += ", because this network took its place"
    unnamed = [str(i) for i, s in enumerate(card.get("stages", ()), 1) if not s.get("sha256")]
    if unnamed:
        reasons.append(
            f"no SHA-256 is recorded of the file in which stage {', '.join(unnamed)} ended"
        )
    return reasons
