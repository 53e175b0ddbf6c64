"""Read image folders: one folder a class, with folders for the splits or without.

Why: a reader that silently skips files trains on less than its user believes, and a random split
changes class shares and puts copies of one picture on both sides. This one decodes every picture
once, draws splits class by class, finds identical pictures, and reports what it left out. The order
within a class is a hash of seed and file name, not a random generator: the same split on any
machine, with any version of any library, also for a class too small for a library's stratified
split.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import PIL.Image
from datasets import DatasetDict
from tqdm import tqdm

from expression.file_kinds import HEIC, HEIC_ADVICE, SYSTEM_NAMES, is_picture_name
from expression.files import shown
from lab.datasets.reading import Report, distinct, picture_digest, with_full_range
from lab.datasets.splits import SPLITS, build_split, seeded_hash, split_name

__all__ = ["is_folder", "load"]

_WANT = "train/<class>/ and test/<class>/ (validation/<class>/ too), or one folder a class"


@dataclass(frozen=True)
class _Picture:
    file: Path
    name: str  # path below the root, with slashes: used in reports and to draw splits
    split: str  # "" without split folders
    label: str
    digest: bytes = b""
    content: bytes | None = None  # where the table holds the picture instead of its path


def _inside(folder: Path) -> list[Path]:
    """A folder's entries without hidden and system files, sorted the same on every machine."""
    found = [p for p in folder.iterdir() if p.name[0] != "." and p.name.lower() not in SYSTEM_NAMES]
    return sorted(found, key=lambda p: p.name)


def _holds_pictures(folder: Path) -> bool:
    try:
        return any(is_picture_name(p) and p.name[0] != "." for p in folder.iterdir())
    except OSError:  # no permission to open it
        return False


def is_folder(path: str | Path) -> bool:
    """Whether `load` can read this: class folders inside split folders, or two class folders.

    Looks at names only. False for parquet files, for `save_to_disk`, for a clone with
    data/legend.csv, and for pictures outside class folders.
    """
    root = Path(path).expanduser()
    others = ("*.parquet", "data/*.parquet", "dataset_dict.json", "data/legend.csv")
    if not root.is_dir() or any(True for name in others for _ in root.glob(name)):
        return False
    folders = [p for p in _inside(root) if p.is_dir()]
    splits = [p for p in folders if split_name(p.name)]
    if splits:
        return any(_holds_pictures(p) for split in splits for p in _inside(split) if p.is_dir())
    return sum(map(_holds_pictures, folders)) >= 2


def _scan(root: Path, report: Report) -> tuple[list[_Picture], set[tuple[str, str]]]:
    """Every picture file, and the (split, class) folders; anything else is reported."""
    children = _inside(root)
    tops = [p for p in children if split_name(p.name) and p.is_dir()]
    found, folders = [], set()
    for stray in [p for p in children if p not in tops] if tops else []:
        report.line(f"{stray.name}: lies beside the split folders; left out")
    for top in tops or [root]:
        split = (split_name(top.name) or "") if tops else ""
        for folder in _inside(top):
            prefix = folder.relative_to(root).as_posix()
            if not folder.is_dir():
                report.line(f"{prefix}: in no class folder; left out")
                continue
            label = folder.name.strip().lower()
            folders.add((split, label))
            for file in _inside(folder):
                name = f"{prefix}/{file.name}"
                if is_picture_name(file):
                    found.append(_Picture(file, name, split, label))
                elif file.is_dir():
                    report.line(f"{name}: a folder inside a class folder; left out")
                else:
                    how = f", {HEIC_ADVICE}" if file.suffix.lower() in HEIC else ""
                    report.line(f"{name}: no picture ({file.suffix or 'no suffix'}{how}); left out")
    return sorted(found, key=lambda p: p.name), folders


def _opened(found: list[_Picture], report: Report, progress: bool) -> list[_Picture]:
    """The pictures whose pixels all decode, with a SHA-256 of their bytes."""
    kept = []
    for picture in tqdm(found, desc="checking pictures", unit="", disable=not progress):
        try:
            content = picture.file.read_bytes()
            digest = picture_digest(content)
        except Exception as error:  # decoders raise nearly any exception for a broken file
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if isinstance(error, PIL.UnidentifiedImageError):  # its message names a Python object
                reason = "no known picture format"
            report.line(f"{picture.name}: does not open ({reason}); left out")
            continue
        utf8 = shown(picture.file) == str(picture.file)  # the table holds no other names
        stored = with_full_range(content)
        as_it_is = utf8 and stored is content  # then the table names the file
        kept.append(replace(picture, digest=digest, content=None if as_it_is else stored))
    return kept


def _distinct(pool: list[_Picture], report: Report) -> list[_Picture]:
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


def _draw(
    pool: list[_Picture], shares: dict[str, float], seed: int, report: Report
) -> dict[str, list[_Picture]]:
    """`pool` divided class by class: each split in turn draws its share of the rest.

    Shares are rounded, but every split gets at least one picture of a class; a class with
    too few for that stays in train.
    """
    classes: dict[str, list[_Picture]] = {}
    for picture in sorted(pool, key=lambda p: seeded_hash(seed, p.name)):
        classes.setdefault(picture.label, []).append(picture)
    parts: dict[str, list[_Picture]] = {"train": [], **{split: [] for split in shares}}
    for label, rest in sorted(classes.items()):
        if len(rest) <= len(shares):
            report.note(
                f"class {label}: {len(rest)} of the {len(shares) + 1} pictures it takes to be in "
                f"train and {' and '.join(shares)}; all kept in train"
            )
        else:
            for wait, (split, share) in enumerate(shares.items(), start=1 - len(shares)):
                k = min(max(1, round(share * len(rest))), len(rest) - 1 + wait)
                parts[split] += rest[:k]
                rest = rest[k:]
        parts["train"] += rest
    return {split: sorted(drawn, key=lambda p: p.name) for split, drawn in parts.items()}


def _parts(
    kept: list[_Picture], given: set[str], sizes: tuple[float, float], seed: int, report: Report
) -> tuple[dict[str, list[_Picture]], str]:
    """Pictures of train, validation, test, and a sentence on where the splits come from."""
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


def _compare(parts: dict[str, list[_Picture]], report: Report) -> dict[str, list[_Picture]]:
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


def _checked_splits(root: Path, found: list[_Picture]) -> set[str]:
    """The splits named by folders; ValueError without train, or with validation but no test."""
    given = {p.split for p in found}
    if not found:
        inside = ", ".join(p.name for p in _inside(root)[:8]) or "nothing"
        raise ValueError(f"{root} holds no picture in a class folder: found {inside}; want {_WANT}")
    has = f"{root} has pictures in {', '.join(sorted(given))}, but none in"
    if given != {""} and "train" not in given:
        raise ValueError(f"{has} train: put those to learn from into train/<class>/")
    if given == {"train", "validation"}:
        raise ValueError(
            f"{has} test: put pictures nobody has trained on or chosen by into test/<class>/; if "
            "validation is such a set, rename it test, and validation is drawn from train"
        )
    return given


def load(
    path: str | Path,
    *,
    test_size: float = 0.25,
    validation_size: float = 0.1,
    seed: int = 0,
    strict: bool = False,
    progress: bool = True,
) -> DatasetDict:
    """Splits `train`, `validation`, `test` with `image` (paths, decoded when read) and `label`.

    Class names are the names of train's class folders in lower case, sorted. Splits that have
    folders of their own are kept as they are. Without test, `test_size` of every class is drawn by
    `seed`; without validation, `validation_size` of what remains in train. Before a split is
    drawn, copies of a picture are left out. Every split's `info.description` says what was left
    out and why; with `strict` the first such thing raises ValueError. Raises FileNotFoundError
    without such a folder, ValueError where a split would be empty.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; expected {_WANT}")
    if not (0 < test_size < 1 and 0 < validation_size < 1):
        raise ValueError(f"test_size {test_size}, validation_size {validation_size}: not in (0, 1)")
    report = Report(strict)
    found, folders = _scan(root, report)
    given = _checked_splits(root, found)
    kept = _opened(found, report, progress)
    for split, label in sorted(folders - {(p.split, p.label) for p in kept}):
        report.note(f"{split or '.'}/{label}: a class folder without a picture that opens")
    parts, how = _parts(kept, given, (test_size, validation_size), seed, report)
    parts = _compare(parts, report)
    if empty := [split for split, rows in parts.items() if not rows]:
        raise ValueError(report.text(f"{root}: no picture is left for {empty[0]}, because"))
    left = sum(map(len, parts.values()))
    head = f"images: {left:,} of {len(found):,} pictures kept, {len(found) - left:,} left out"
    names = sorted({p.label for p in parts["train"]})
    splits = DatasetDict()
    for split in SPLITS:
        images = [
            {"path": None if p.content else str(p.file), "bytes": p.content} for p in parts[split]
        ]
        labels = [names.index(p.label) for p in parts[split]]
        splits[split] = build_split(images, labels, names)
        splits[split].info.description = report.text(head, how)
    return splits
