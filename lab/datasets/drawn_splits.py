"""Draw the splits that a data set lacks: the one rule for image folders and for tables.

Why: choosing on the test split makes its figure worthless, so a missing validation split comes out
of train. A missing test split is drawn too, but a validation split is never renamed test. Every
class gives the same share; the order within a class is a hash of seed and name, not a random
generator: the same split on any machine, with any version of any library.
"""

from collections import Counter
from typing import Protocol, TypeVar

from lab.datasets.reading import Report, distinct
from lab.datasets.splits import SPLITS, seeded_hash

__all__ = ["check_given", "check_sizes", "compare", "complete"]


class Drawable(Protocol):
    """A picture: its name in reports (splits are drawn by it), its split, its class, its hash."""

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def digest(self) -> bytes: ...


P = TypeVar("P", bound=Drawable)


def check_sizes(test_size: float, validation_size: float) -> None:
    """Raises ValueError for a share that is not between 0 and 1."""
    if not (0 < test_size < 1 and 0 < validation_size < 1):
        raise ValueError(f"test_size {test_size}, validation_size {validation_size}: not in (0, 1)")


def check_given(given: set[str], where: str, train: str, test: str) -> None:
    """Raises ValueError where the splits found lack train, or are train and validation alone.

    `train` and `test` say where pictures of those splits belong.
    """
    has = f"{where} has pictures in {', '.join(sorted(given)) or 'no split'}, but none in"
    if "train" not in given:
        raise ValueError(f"{has} train: put those to learn from into {train}")
    if "validation" in given and "test" not in given:
        raise ValueError(
            f"{has} test: put pictures nobody has trained on or chosen by into {test}; if "
            "validation is such a set, rename it test, and validation is drawn from train"
        )


def _distinct(pool: list[P], report: Report) -> list[P]:
    """One of each set of identical pictures; none where their classes differ."""
    kept, copies, contradicting = distinct(pool)
    if contradicting:
        first = contradicting[0][0]
        other = next(p for p in contradicting[0] if p.label != first.label)
        report.note(
            f"{sum(map(len, contradicting)):,} × same picture in different classes, left out, "
            f"such as {first.name} = {other.name}"
        )
    if copies:
        report.note(
            f"{len(copies):,} × copy of a picture within its class, left out, such as "
            f"{copies[0][0].name} = {copies[0][1].name}"
        )
    return kept


def _draw(pool: list[P], shares: dict[str, float], seed: int, report: Report) -> dict[str, list[P]]:
    """`pool` divided class by class: each split in turn draws its share of the rest.

    Shares are rounded, but every split gets at least one picture of a class; a class with
    too few for that stays in train.
    """
    classes: dict[str, list[P]] = {}
    for picture in sorted(pool, key=lambda p: seeded_hash(seed, p.name)):
        classes.setdefault(picture.label, []).append(picture)
    parts: dict[str, list[P]] = {"train": [], **{split: [] for split in shares}}
    for label, rest in sorted(classes.items()):
        if len(rest) <= len(shares):
            has = "1 picture" if len(rest) == 1 else f"{len(rest)} pictures"
            splits = "all splits" if len(shares) > 1 else f"train and {next(iter(shares))}"
            report.note(
                f"class {label} has {has}, kept in train: it takes {len(shares) + 1} to be in "
                f"{splits}"
            )
        else:
            for wait, (split, share) in enumerate(shares.items(), start=1 - len(shares)):
                k = min(max(1, round(share * len(rest))), len(rest) - 1 + wait)
                parts[split] += rest[:k]
                rest = rest[k:]
        parts["train"] += rest
    return {split: sorted(drawn, key=lambda p: p.name) for split, drawn in parts.items()}


def complete(
    kept: list[P], given: set[str], sizes: tuple[float, float], seed: int, report: Report
) -> tuple[dict[str, list[P]], str]:
    """Pictures of train, validation, test, and a sentence on where the splits come from.

    `given`: the splits that the source names; `sizes`: shares of test and validation where drawn.
    """
    parts = {s: [p for p in kept if p.split == s] for s in SPLITS}
    test, validation = (f"{100 * size:g} %" for size in sizes)
    if "test" not in given:
        pool = _distinct(kept, report)
        parts = _draw(pool, {"test": sizes[0], "validation": sizes[1]}, seed, report)
        how = f"test ({test}) and validation ({validation} of the rest) drawn class by class"
    elif "validation" not in given:
        parts |= _draw(_distinct(parts["train"], report), {"validation": sizes[1]}, seed, report)
        how = f"test as found, validation ({validation}) drawn from train class by class"
    else:
        return parts, "splits: as found"
    return parts, f"splits: {how}, seed {seed}"


def compare(parts: dict[str, list[P]], report: Report) -> dict[str, list[P]]:
    """The parts without classes that train lacks. Reports missing classes and shared pictures."""
    counts = {split: Counter(p.label for p in parts[split]) for split in parts}
    for label in sorted(set().union(*counts.values())):
        for split in ("validation", "test"):
            n = counts[split][label]
            if n and not counts["train"][label]:
                report.note(
                    f"class {label}: {n:,} × picture of {split} left out, for train has none and "
                    "nothing can be learnt about it"
                )
            elif not n and counts["train"][label] and any(p.split == split for p in parts[split]):
                report.note(f"class {label}: in train, but not in {split}; kept")
    parts = {s: [p for p in rows if counts["train"][p.label]] for s, rows in parts.items()}
    earlier = {p.digest for p in parts["train"]}
    for split, before in (("validation", "train"), ("test", "train or validation")):
        n = sum(p.digest in earlier for p in parts[split])
        if n:
            report.note(
                f"{n:,} × picture of {split} that is byte for byte in {before} too, kept, but it "
                "flatters every figure"
            )
        earlier |= {p.digest for p in parts[split]}
    return parts
