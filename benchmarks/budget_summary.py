"""What the runs of equal budgets found: means over seeds, a ranking, and neighbours compared."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.paired_answers import bootstrap_difference, mcnemar

__all__ = ["TOLERANCE", "plus_minus", "spread", "summarise", "table"]

# A system is ranked when its planned minutes lie this share of the budget away from it at most, and
# not trained when they lie further above. Set before anything was measured: a whole number of
# epochs seldom fills the minutes. The minutes that a run then took depend on what else the machine
# did; they are told and decide nothing.
TOLERANCE = 0.25
HEADS = ("", "System", "Accuracy (%)", "Macro F1 (%)", "Minutes planned", "Minutes taken", "Epochs",
         "Parameters", "Seeds", "Ahead of the next by (points)", "McNemar p")  # fmt: skip
RightAnswers = Mapping[str, np.ndarray]  # {split: bool (n,)}
Runs = dict[int, tuple[Mapping[str, Any], RightAnswers]]  # by seed


def summarise(runs: Sequence[tuple[Mapping[str, Any], RightAnswers]]) -> dict[str, Any]:
    """{"systems": …, "splits": {split: {"ranking", "not_ranked", "rows", "neighbours"}}}.

    `runs` are records with the right answers of their networks. Ranked by mean accuracy are systems
    whose plan takes about the minutes of the budget (`TOLERANCE`), each compared with the next.
    """
    by_system: dict[str, Runs] = {}
    for record, right in runs:
        settings = record["settings"]
        by_system.setdefault(settings["system"], {})[settings["seed"]] = (record, right)
    systems = {
        name: about_system([record for _, (record, _) in sorted(own.items())])
        for name, own in by_system.items()
    }
    found = {split for own in by_system.values() for record, _ in own.values()
             for split in record["figures"]}  # fmt: skip
    splits = {split: of_split(split, by_system, systems) for split in sorted(found, reverse=True)}
    return {"systems": systems, "splits": splits}


def about_system(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the runs of one system have in common, and their minutes."""
    settings, planned = records[0]["settings"], records[0]["planned_minutes"]
    return {
        "epochs": settings["recipe"]["epochs"],
        "limit": settings["recipe"]["limit"],
        "parameters": records[0]["parameters"],
        "planned_minutes": planned,
        "minutes": spread({r["settings"]["seed"]: r["minutes"] for r in records}),
        "within_budget": abs(planned / settings["budget"] - 1) <= TOLERANCE,
    }


def of_split(
    split: str, by_system: Mapping[str, Runs], systems: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Means of one split over the seeds, the ranking, and neighbours in it."""
    rows: dict[str, Any] = {}
    answers: dict[str, dict[int, np.ndarray]] = {}
    for name, runs in by_system.items():
        told = {seed: runs[seed][0]["figures"][split] for seed in sorted(runs)
                if split in runs[seed][0]["figures"]}  # fmt: skip
        if told:
            answers[name] = {seed: runs[seed][1][split] for seed in told}
            rows[name] = {key: spread({seed: f[key] for seed, f in told.items()})
                          for key in ("accuracy", "macro_f1")}  # fmt: skip
            rows[name]["n"] = next(iter(told.values()))["n"]
    order = sorted(rows, key=lambda name: -rows[name]["accuracy"]["mean"])
    ranking = [name for name in order if systems[name]["within_budget"]]
    pairs = zip(ranking, ranking[1:], strict=False)
    return {
        "ranking": ranking,
        "not_ranked": [name for name in order if name not in ranking],
        "rows": rows,
        "neighbours": [{"ahead": a, "behind": b, **compared(answers[a], answers[b])}
                       for a, b in pairs],
    }  # fmt: skip


def spread(values: Mapping[int, float]) -> dict[str, Any]:
    """Values by seed, their mean, and from two seeds on their standard deviation."""
    told: dict[str, Any] = {"values": {str(seed): value for seed, value in values.items()}}
    told["mean"] = mean(values.values())
    if len(values) > 1:
        told["sd"] = stdev(values.values())
    return told


def compared(ours: Mapping[int, np.ndarray], theirs: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """McNemar's test of the first seeds' answers, and the difference over all seeds and faces."""
    return {
        "mcnemar": mcnemar(ours[min(ours)], theirs[min(theirs)]),
        "difference": bootstrap_difference(
            np.stack([*ours.values()]), np.stack([*theirs.values()])
        ),
    }


# --- the table ---


def table(told: Mapping[str, Any], split: str) -> str:
    """A row for each system: those of the ranking by accuracy, then the others without a place."""
    found = told["splits"][split]
    after = {pair["ahead"]: pair for pair in found["neighbours"]}

    def cells(name: str, place: str) -> Iterator[str]:
        row, system = found["rows"][name], told["systems"][name]
        yield place
        yield f"`{name}`"
        yield plus_minus(row["accuracy"], 100, 2)
        yield plus_minus(row["macro_f1"], 100, 2)
        yield f"{system['planned_minutes']:.1f}"
        yield plus_minus(system["minutes"], 1, 1)
        yield epochs_cell(system)
        yield f"{system['parameters']:,}"
        yield str(len(row["accuracy"]["values"]))
        yield from neighbour_cells(after.get(name))

    rows = [list(cells(name, str(place))) for place, name in enumerate(found["ranking"], 1)]
    rows += [list(cells(name, "–")) for name in found["not_ranked"]]
    return harness.markdown_table(HEADS, rows)


def plus_minus(found: Mapping[str, Any], scale: float, digits: int) -> str:
    """'61.20 ± 0.35': mean and standard deviation; of one seed its value alone."""
    text = f"{scale * found['mean']:.{digits}f}"
    return f"{text} ± {scale * found['sd']:.{digits}f}" if "sd" in found else text


def epochs_cell(system: Mapping[str, Any]) -> str:
    """The epochs; of a system without any the faces that it saw."""
    if system["epochs"]:
        return str(system["epochs"])
    return f"none, {system['limit']:,} faces" if system["limit"] else "none, all faces"


def neighbour_cells(pair: Mapping[str, Any] | None) -> tuple[str, str]:
    """Difference to the next system with its interval, bold where that leaves out 0; and p."""
    if pair is None:
        return "–", "–"
    low, high = (100 * end for end in pair["difference"]["interval_95"])
    text = f"{100 * pair['difference']['mean']:.2f} ({low:+.2f} to {high:+.2f})".replace("-", "−")
    test = pair["mcnemar"]
    p = "< 0.001" if test["p"] < 0.001 else f"{test['p']:.3f}"
    counts = f"{test['ours_alone']} : {test['theirs_alone']}"
    return (f"**{text}**" if low > 0 or high < 0 else text), f"{p} ({counts})"
