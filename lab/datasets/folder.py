"""Read image folders: one folder a class, with folders for the splits or without.

Why: a reader that silently skips files trains on less than its user believes, and a random split
changes class shares and puts copies of one picture on both sides. This one decodes every picture
once, draws splits class by class, finds identical pictures, and reports what it left out. The order
within a class is a hash of seed and file name, not a random generator: the same split on any
machine, with any version of any library, also for a class too small for a library's stratified
split.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from datasets import DatasetDict
from tqdm import tqdm

from expression.file_kinds import HEIC, HEIC_ADVICE, SYSTEM_NAMES, is_picture_name
from expression.files import shown
from lab.datasets.drawn_splits import check_given, check_sizes, compare, complete
from lab.datasets.reading import (
    Report,
    picture_content,
    picture_digest,
    why_not_open,
    with_full_range,
)
from lab.datasets.splits import SPLITS, build_split, split_name

__all__ = ["is_folder", "load", "why_not"]

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


def why_not(path: str | Path) -> str:
    """What is wrong with a folder that `load` does not read: a clause that says what to do, such as
    for one class alone, or pictures sorted by subject. "" where there are no folders."""
    root = Path(path).expanduser()
    if not root.is_dir():
        return ""
    folders = [p for p in _inside(root) if p.is_dir()]
    if len(folders) == 1 and is_folder(folders[0]):
        return f"the image folders are one folder deeper: give {shown(folders[0])}"
    classes = [p.name for p in folders if _holds_pictures(p)]
    if len(classes) == 1 and not _holds_pictures(root):
        return f"it has one class folder, {shown(classes[0])}, and two or more are needed"
    picture = next(_pictures_below(root), None)
    if picture is None:
        return "its folders hold no picture" if folders else ""
    return (
        f"pictures such as {shown(picture.relative_to(root).as_posix())} lie in no class folder: "
        f"the folder that a picture lies in must be its class, as in {_WANT}; move them (all "
        "pictures of one person into the same split)"
    )


def _pictures_below(root: Path) -> Iterator[Path]:
    """Pictures up to four folders deep, of the first 10,000 files of each depth."""
    found = (sorted(islice(root.glob("/".join("*" * n)), 10_000)) for n in range(1, 6))
    return (p for p in chain.from_iterable(found) if is_picture_name(p) and p.name[0] != ".")


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
            content = picture_content(picture.file)
            digest = picture_digest(content)
        except Exception as error:  # decoders raise nearly any exception for a broken file
            report.line(f"{picture.name}: does not open ({why_not_open(error)}); left out")
            continue
        utf8 = shown(picture.file) == str(picture.file)  # the table holds no other names
        stored = with_full_range(content)
        as_it_is = utf8 and stored is content  # then the table names the file
        kept.append(replace(picture, digest=digest, content=None if as_it_is else stored))
    return kept


def _checked_splits(root: Path, found: list[_Picture]) -> set[str]:
    """The splits named by folders; ValueError without a picture, or as `check_given`."""
    if not found:
        inside = ", ".join(p.name for p in _inside(root)[:8]) or "nothing"
        raise ValueError(f"{root} holds no picture in a class folder: found {inside}; want {_WANT}")
    given = {p.split for p in found}
    if given != {""}:
        check_given(given, str(root), "train/<class>/", "test/<class>/")
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
    check_sizes(test_size, validation_size)
    report = Report(strict)
    found, folders = _scan(root, report)
    given = _checked_splits(root, found)
    kept = _opened(found, report, progress)
    for split, label in sorted(folders - {(p.split, p.label) for p in kept}):
        place = f"{split}/{label}" if split else label
        report.note(f"{place}: a class folder without a picture that opens")
    parts, how = complete(kept, given, (test_size, validation_size), seed, report)
    parts = compare(parts, report)
    if empty := [split for split, rows in parts.items() if not rows]:
        raise ValueError(f"{root}: no picture is left for {empty[0]}: {report.why()}; add pictures")
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
