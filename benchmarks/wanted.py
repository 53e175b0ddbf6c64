"""What was wanted of speed and accuracy, and what came of it, from the committed JSON files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from insight.metrics import VIEW_WORDS
from lab import reports
from lab.results import Results

__all__ = ["Aim", "aims", "bare_pace", "table"]

HERE = Path(__file__).resolve().parent
NO_GPU = "no GPU was at hand"


@dataclass(frozen=True)
class Aim:
    """One wish: what, how much, what was measured; `why` is shown where it was missed.

    `value` is None where nothing was measured; otherwise it must reach `least`, or stay at or
    below `most`.
    """

    what: str
    wanted: str
    told: str = "not run"
    value: float | None = None
    least: float | None = None
    most: float | None = None
    why: str = ""

    @property
    def reached(self) -> bool:
        return (
            self.value is not None
            and (self.least is None or self.value >= self.least)
            and (self.most is None or self.value <= self.most)
        )


def table(found: list[Aim]) -> str:
    """The aims as Markdown, each with its reason where it was missed."""
    lines = ["| What | Wanted | Measured | Reached | Why not |", "|---|---|---|---|---|"]
    for aim in found:
        mark, why = ("yes", "–") if aim.reached else ("**no**", aim.why)
        lines.append(f"| {aim.what} | {aim.wanted} | {aim.told} | {mark} | {why} |")
    return "\n".join(lines)


def aims() -> list[Aim]:
    """Every aim, with what the JSON files of `benchmarks/` and `results/` say of it."""
    looped, compared = measured("loop"), measured("trainers")
    return [
        *training(looped["loop"], looped["growth"], compared),
        *answering(measured("against_fer")["rows"]),
        *learning(),
        *running(measured("speedrun")),
    ]


def measured(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def result(name: str) -> dict[str, Any]:
    """A network's card, and its figures on the data it was trained on: split → views → figures."""
    rows = {row.folder: row for row in reports.read(Results(HERE.parent / "results"))}
    row = rows[f"{name}-fer2013"]
    told: dict[str, Any] = {**row.card}
    told |= {split: {} for split, _ in row.results}
    for split, view in row.results:
        told[split][view] = row.told(split, view).as_dict()
    return told


def bare_pace(case: Mapping[str, Any]) -> float:
    """Pictures per second of the bare step of a network of loop.json."""
    return median(turn["bare"] for turn in case["turns"])


def training(
    looped: Mapping[str, Any], grown: Mapping[str, Any], compared: Mapping[str, Any]
) -> list[Aim]:
    shares = [median(turn["share"] for turn in case["turns"]) for case in looped["cases"]]
    rates = {row["name"]: row["median"] for row in compared["rows"] if "median" in row}
    ours, plain = rates["train_loop-Batches"], rates["train_loop-plain-0"]
    ordered = rates["train_loop-Batches-channels_last"] / plain
    bound = bare_pace(looped["cases"][0]) / plain
    rivals = {name: ours / rate for name, rate in rates.items() if not name.startswith("train_lo")}
    theirs = [ratio for name, ratio in rivals.items() if "plain" in name]
    fed = [ratio for name, ratio in rivals.items() if "Batches" in name]
    paces = [median(size["rates"]) for size in grown["sizes"]]
    moved = max(max(size["rates"]) / min(size["rates"]) for size in grown["sizes"])
    peaks = [size["peak_megabytes"] for size in grown["sizes"]]
    times = grown["sizes"][-1]["pictures"] / grown["sizes"][0]["pictures"]
    pace = "the machine's pace moves by more than that between turns"
    return [
        Aim("the loop's share of the bare step's pace, CPU", "≥ 0.95", f"{min(shares):.2f} or more "
            f"({len(shares)} networks)", min(shares), least=0.95, why=pace),
        Aim("the same on a GPU", "≥ 0.95", why=NO_GPU),
        Aim("TinyVGG, 64 px, beside the plain way", "≥ 3 ×", f"{ours / plain:.2f} ×; "
            f"{ordered:.2f} × in channels_last", max(ours / plain, ordered), least=3,
            why=f"pictures for nothing would give {bound:.2f} ×: the bare step itself fills these "
            "cores"),
        Aim("the same beside Lightning, transformers and fastai, each fed its ordinary way",
            "ahead of all", f"{min(theirs):.2f}–{max(theirs):.2f} ×", min(theirs), least=1,
            why=pace),
        Aim("the same, each fed by this repository's `Batches`", "ahead of all",
            f"{min(fed):.2f}–{max(fed):.2f} ×", min(fed), least=1, why=pace),
        Aim(f"pace from {grown['sizes'][0]['pictures']:,} to {grown['sizes'][-1]['pictures']:,} "
            "pictures", "within 10 %", f"slowest {100 * min(paces) / max(paces):.0f} % of fastest; "
            f"the largest set at {paces[-1] / paces[0]:.2f} × the smallest's pace",
            min(paces) / max(paces), least=0.9,
            why=f"one size's own pace moved by {moved:.1f} × between its turns on this machine"),
        Aim(f"peak memory with {times:.0f} times the pictures", "of the batch, not of the set",
            f"{peaks[-1] / peaks[0]:.2f} ×", peaks[-1] / peaks[0], most=1.1,
            why="more is held than a batch needs"),
    ]  # fmt: skip


def answering(rows: list[dict[str, Any]]) -> list[Aim]:
    told = {(row["name"], row["engine"].split(" by ")[0]): row for row in rows if "one" in row}

    def figures(name: str, engine: str) -> tuple[float, float, float]:
        row = told[name, engine]
        right = row["accuracy"]["test"]
        return (100 * right["k"] / right["n"], 1000 * row["one"]["median"],
                128 / row["many"]["median"])  # fmt: skip

    fer, fer_one, fer_many = figures("fer", "TFLite")
    large, large_one, _ = figures("expression-fer2013", "onnxruntime")
    small, one, many = figures("expression_small-fer2013", "onnxruntime")
    int8, int8_one, _ = figures("expression_small-fer2013", "onnxruntime, int8")
    ahead = small > fer and one < fer_one and many > fer_many
    both = "`expression_small`, onnxruntime: "
    return [
        Aim("`expression`, onnxruntime: PrivateTest above `fer`'s", f"> {fer:.1f} %",
            f"{large:.1f} %", large - fer, least=0),
        Aim("`expression`, onnxruntime: one face", "< 5 ms", f"{large_one:.2f} ms", large_one,
            most=5),
        Aim(both + "ahead of `fer` in accuracy, one face and a batch, side by side", "all three",
            f"{small:.1f} : {fer:.1f} %, {one:.2f} : {fer_one:.2f} ms, {many:,.0f} : "
            f"{fer_many:,.0f} faces/s", float(ahead), least=1),
        Aim(both + "one face", "≤ 0.38 ms",
            f"{one:.2f} ms; in int8 {int8_one:.2f} ms, {int8:.1f} %", one, most=0.38,
            why=f"`fer`, known at 0.38 ms elsewhere, takes {fer_one:.2f} on this machine"),
        Aim(both + "128 faces", "≥ 2,700 faces/s", f"{many:,.0f} faces/s", many, least=2700),
    ]  # fmt: skip


def best(told: Mapping[str, Any]) -> tuple[str, float]:
    """Test accuracy in percent in the best way to look that validation knows, and its name."""
    way = max(told["validation"], key=lambda way: told["validation"][way]["accuracy"])
    return VIEW_WORDS[way], 100 * told["test"][way]["accuracy"]


def learning() -> list[Aim]:
    names = ("expression", "expression_small", "vit_tiny_distilled")
    large, small, vit = (result(name) for name in names)
    minutes = large["minutes"] + sum(stage["minutes"] for stage in large.get("stages", []))
    epochs = large["recipe"]["epochs"] + sum(s["epochs"] for s in large.get("stages", []))
    seeds = len(large.get("all_seeds", {}).get("seeds", [0]))
    rows = []
    for name, told, least, why in (
        ("`expression`, two CPU cores", large, 70, f"{epochs} epochs took {minutes:.0f} minutes of "
         "this processor; every further stage still brought something (`--start`)"),
        ("ViT-Tiny without ImageNet, taught by the flagship", vit, 69.85,
         f"the committed one learnt for {vit['recipe']['epochs']} epochs, from an earlier teacher; "
         f"{NO_GPU} for the hundred that it wants"),
    ):
        way, reached = best(told)
        rows.append(Aim(f"{name}: PrivateTest", f"≥ {least} %", f"{reached:.1f} % ({way})", reached,
                        least=least, why=why))
    once, twice = (100 * small["test"][way]["accuracy"] for way in ("plain", "flip"))
    return [
        *rows,
        Aim("`expression_small`: PrivateTest, with the one look that its times are of", "≥ 69 %",
            f"{once:.1f} %; {twice:.1f} % with the mirror image", once, least=69,
            why="the mirror image is a second look, and takes as long again"),
        Aim("`expression`, mean of five seeds with a GPU", "≥ 74 %",
            f"not run; {seeds} seed{'s' * (seeds > 1)} on the CPU",
            why=f"{NO_GPU}; the command is `make flagship`"),
    ]  # fmt: skip


def running(told: Mapping[str, Any]) -> list[Aim]:
    rows = []
    for target in (65, 70, 72):
        runs = next((v["runs"] for k, v in told.items() if k.endswith(f" {target}")), [])
        what = f"speedrun to {target} % of PrivateTest"
        if not runs:
            rows.append(Aim(what, "≥ 5 seeds", why=f"{NO_GPU}; `speedrun.py --target {target}`"))
            continue
        tests = [100 * run["test"] for run in runs]
        spread = f" ± {stdev(tests):.1f}" if len(tests) > 1 else ""
        rows.append(Aim(what, "≥ 5 seeds", f"{mean(tests):.1f}{spread} %, {len(tests)} seeds",
                        mean(tests) if len(tests) >= 5 else None, least=target,
                        why=f"{len(tests)} seeds only"))  # fmt: skip
    return rows
