"""What the paired trials found: differences to the base by seed, their spread, and tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from scipy.stats import ttest_1samp

from benchmarks import harness

__all__ = ["BASE", "head_table", "summarise", "table"]

BASE = "base"  # the arm that every other one is compared with
ANSWERS = {"combined": "served answer", "label": "label head", "votes": "votes head"}


@dataclass(frozen=True)
class Measure:
    """A figure that the arms are judged by."""

    title: str
    scale: float = 1.0
    digits: int = 3
    own: bool = False  # of one program: a column only where something was found


MEASURES = {
    "accuracy": Measure("FER2013 accuracy (%)", 100, 2),
    "nll": Measure("FER2013 NLL (nats)"),
    "majority": Measure("FER+ majority (%)", 100, 2),
    "vote_cross_entropy": Measure("FER+ votes, cross-entropy (nats)"),
    "abroad_validation": Measure("Muxspace validation, mean recall without disgust (%)", 100, 2),
    "abroad_train": Measure("Muxspace train, the same (%)", 100, 2),
    "worse_pictures": Measure("FER2013 accuracy on worse pictures (%)", 100, 2, own=True),
}
BY_HEAD = {"label": ("accuracy", "nll", "abroad_train"),
           "votes": ("majority", "vote_cross_entropy", "abroad_train")}  # fmt: skip


def summarise(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """{arm: {answer: {measure: …}}} with the figures by seed, and beside the base's by the same
    seeds the mean difference, its standard deviation and a paired 95 % t interval.

    One pair gives a mean alone; a run whose base is not there yet has no difference.
    """
    by_arm: dict[str, dict[int, Mapping[str, Any]]] = {}
    for told in records:
        by_arm.setdefault(told["settings"]["arm"], {})[told["settings"]["seed"]] = told
    base = by_arm.get(BASE, {})
    found: dict[str, Any] = {}
    for name, runs in by_arm.items():
        rows: dict[str, Any] = {}
        for answer in ANSWERS:
            for key in MEASURES:
                ours, theirs = (
                    figures_by_seed(runs, answer, key),
                    figures_by_seed(base, answer, key),
                )
                if ours:
                    rows.setdefault(answer, {})[key] = compared(ours, theirs)
        found[name] = {"minutes": mean(told["minutes"] for told in runs.values()), "answers": rows}
    return found


def figures_by_seed(
    runs: Mapping[int, Mapping[str, Any]], answer: str, key: str
) -> dict[int, float]:
    """{seed: figure} of the runs that have it."""
    values = {seed: told["figures"].get(answer, {}).get(key) for seed, told in runs.items()}
    return {seed: values[seed] for seed in sorted(values) if values[seed] is not None}


def compared(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[str, Any]:
    """Figures by seed, and the differences ours - theirs of the seeds that both have."""
    told: dict[str, Any] = {"values": {str(seed): value for seed, value in ours.items()}}
    pairs = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    if pairs:
        told["differences"] = {str(seed): value for seed, value in pairs.items()}
        told["mean"] = mean(pairs.values())
    if len(pairs) > 1:
        told["sd"] = stdev(pairs.values())
        told["interval_95"] = paired_interval([*pairs.values()])
    return told


def paired_interval(differences: Sequence[float]) -> list[float]:
    """95 % t interval of the mean difference; of equal differences it has no width."""
    if not any(differences[0] != value for value in differences):
        return [differences[0]] * 2
    interval = ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return [float(interval.low), float(interval.high)]


# --- tables ---


def table(told: Mapping[str, Any]) -> str:
    """The served answer: the base's mean figures, and what each arm adds to them."""
    found = {k for arm in told["arms"].values() for k in arm["answers"].get("combined", ())}
    keys = [key for key, measure in MEASURES.items() if key in found or not measure.own]
    return rows_of(told, [("combined", key) for key in keys], [MEASURES[k].title for k in keys])


def head_table(told: Mapping[str, Any]) -> str:
    """Each head alone, by what it was made for."""
    columns = [(head, key) for head, keys in BY_HEAD.items() for key in keys]
    return rows_of(told, columns, [f"{ANSWERS[h]}: {MEASURES[k].title}" for h, k in columns])


def rows_of(
    told: Mapping[str, Any], columns: Sequence[tuple[str, str]], titles: Sequence[str]
) -> str:
    def cells(name: str) -> Iterator[str]:
        row = told["arms"][name]
        yield told["settings"]["arms"][name]["title"]
        yield str(len(row["answers"]["combined"]["accuracy"]["values"]))
        yield f"{row['minutes']:.1f}"
        for answer, key in columns:
            yield cell(row["answers"].get(answer, {}).get(key), MEASURES[key], name == BASE)

    names = [name for name in told["settings"]["arms"] if name in told["arms"]]
    return harness.markdown_table(
        ("Arm", "Seeds", "Minutes", *titles), map(list, map(cells, names))
    )


def cell(found: Mapping[str, Any] | None, measure: Measure, is_base: bool) -> str:
    """The base's mean; of another arm the mean difference and its interval, bold without 0."""
    if found is None or not (is_base or "mean" in found):
        return "–"
    scale, digits = measure.scale, measure.digits
    if is_base:
        return f"{scale * mean(found['values'].values()):.{digits}f}"
    text = f"{scale * found['mean']:+.{digits}f}"
    if "interval_95" in found:
        low, high = (scale * end for end in found["interval_95"])
        text += f" ({low:+.{digits}f} to {high:+.{digits}f})"
        if low > 0 or high < 0:
            text = f"**{text}**"
    return text.replace("-", "−")
