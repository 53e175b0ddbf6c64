"""Read image folders: one folder a class, with folders for the splits or without.

Why: a folder reader that takes what opens and says nothing trains on less than its user
believes, and a split drawn by chance moves class shares and puts copies of one picture on both
sides. This one decodes every picture once, draws splits class by class, finds identical
pictures, and tells what it left out. The order within a class is a hash of seed and file name,
not a random generator: the same split on any machine, with any version of any library, also
for a class too small for a library's stratified split.
Source: written for this project. Needs datasets, pillow and tqdm; copy freely (MIT, see LICENSE).

    python sources/folder.py path/to/folder     # counts per split and class, and the report
"""

import hashlib
import io
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import PIL.Image
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from tqdm import tqdm

__all__ = ["is_folder", "load"]

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SUFFIXES = frozenset(".png .jpg .jpeg .bmp .webp .gif .tif .tiff".split())
_NOISE = frozenset(("__macosx", "thumbs.db", "desktop.ini"))  # left by the computer, not the user
_WANT = "train/<class>/ and test/<class>/ (validation/<class>/ too), or one folder a class"
_SHOWN = 20


@dataclass(frozen=True)
class _Picture:
    file: Path
    name: str  # posix path below the root: what reports say and splits are drawn by
    split: str  # "" where folders name none
    label: str
    digest: bytes = b""


@dataclass
class _Report:
    """What is wrong, said at the end; at once, as a ValueError, where `strict`."""

    strict: bool
    notes: list[str] = field(default_factory=list)  # about many pictures: always shown
    lines: list[str] = field(default_factory=list)  # about one file each: the first 20 are shown

    def note(self, text: str) -> None:
        self._add(self.notes, text)

    def file(self, name: str, text: str) -> None:
        self._add(self.lines, f"{name}: {text}; left out")

    def _add(self, to: list[str], text: str) -> None:
        text = text.encode(errors="backslashreplace").decode()  # a name may be no valid UTF-8
        if self.strict:
            raise ValueError(f"{text} (refused by strict=True)")
        to.append(text)

    def text(self, head: Iterable[str]) -> str:
        more = len(self.lines) - _SHOWN
        tail = [f"… and {more:,} more"] if more > 0 else []
        return "\n".join([*head, *self.notes, *self.lines[:_SHOWN], *tail])


def _inside(folder: Path) -> list[Path]:
    """What a user put there, by name: upper case before lower, as on every machine."""
    found = [p for p in folder.iterdir() if p.name[0] != "." and p.name.lower() not in _NOISE]
    return sorted(found, key=lambda p: p.name)


def _holds_pictures(folder: Path) -> bool:
    try:
        return any(p.suffix.lower() in _SUFFIXES and p.name[0] != "." for p in folder.iterdir())
    except OSError:  # not ours to open
        return False


def is_folder(path: str | Path) -> bool:
    """Whether `load` knows this form: class folders inside split folders, or two class folders.

    Looks at names only. No for parquet files, for `save_to_disk`, for a clone with
    data/legend.csv, and for loose pictures.
    """
    root = Path(path).expanduser()
    others = ("*.parquet", "data/*.parquet", "dataset_dict.json", "data/legend.csv")
    if not root.is_dir() or any(True for name in others for _ in root.glob(name)):
        return False
    folders = [p for p in _inside(root) if p.is_dir()]
    splits = [p for p in folders if p.name.lower() in _SPLITS]
    if splits:
        return any(_holds_pictures(p) for split in splits for p in _inside(split) if p.is_dir())
    return sum(map(_holds_pictures, folders)) >= 2


def _scan(root: Path, report: _Report) -> tuple[list[_Picture], set[tuple[str, str]]]:
    """Every picture file, and the (split, class) folders; what else lies there is reported."""
    children = _inside(root)
    tops = [p for p in children if p.name.lower() in _SPLITS and p.is_dir()]
    found, folders = [], set()
    for stray in [p for p in children if p not in tops] if tops else []:
        report.file(stray.name, "lies beside the split folders")
    for top in tops or [root]:
        split = _SPLITS[top.name.lower()] if tops else ""
        for folder in _inside(top):
            prefix = folder.relative_to(root).as_posix()
            if not folder.is_dir():
                report.file(prefix, "in no class folder")
                continue
            label = folder.name.strip().lower()
            folders.add((split, label))
            for file in _inside(folder):
                name = f"{prefix}/{file.name}"
                if file.suffix.lower() in _SUFFIXES:
                    found.append(_Picture(file, name, split, label))
                elif file.is_dir():
                    report.file(name, "a folder inside a class folder")
                else:
                    report.file(name, f"no picture ({file.suffix or 'no suffix'})")
    return sorted(found, key=lambda p: p.name), folders


def _opened(found: list[_Picture], report: _Report, progress: bool) -> list[_Picture]:
    """Those that decode to the last row of pixels, with a SHA-256 of their bytes."""
    kept = []
    for picture in tqdm(found, desc="checking pictures", unit="", disable=not progress):
        try:
            str(picture.file).encode()  # the table holds no other names
            data = picture.file.read_bytes()
            with PIL.Image.open(io.BytesIO(data)) as image:
                image.load()
        except Exception as error:  # a broken file raises nearly anything, by its format
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if isinstance(error, PIL.UnidentifiedImageError):  # its words name an object
                reason = "no known picture format"
            report.file(picture.name, f"does not open ({reason})")
            continue
        kept.append(replace(picture, digest=hashlib.sha256(data).digest()))
    return kept


def _distinct(pool: list[_Picture], report: _Report) -> list[_Picture]:
    """One of each set of identical pictures; none where their classes differ."""
    first: dict[bytes, _Picture] = {}
    torn: dict[bytes, str] = {}  # digest → two files in different classes
    for p in pool:
        known = first.setdefault(p.digest, p)
        if known.label != p.label:
            torn.setdefault(p.digest, f"{known.name} = {p.name}")
    unsure = [p for p in pool if p.digest in torn]
    copies = [p for p in pool if p.digest not in torn and first[p.digest] is not p]
    if unsure:
        report.note(
            f"{len(unsure):,} × same picture in different classes, left out, such as "
            f"{torn[unsure[0].digest]}"
        )
    if copies:
        report.note(
            f"{len(copies):,} × copy of a picture within its class, left out, such as "
            f"{first[copies[0].digest].name} = {copies[0].name}"
        )
    return [p for p in pool if p.digest not in torn and first[p.digest] is p]


def _draw(
    pool: list[_Picture], shares: dict[str, float], seed: int, report: _Report
) -> dict[str, list[_Picture]]:
    """`pool` parted class by class: each split in turn draws its share of what is left.

    Shares are rounded, but every split gets at least one picture of a class; a class with
    too few for that stays in train.
    """

    def rank(picture: _Picture) -> bytes:
        return hashlib.sha256(f"{seed}/{picture.name}".encode()).digest()

    classes: dict[str, list[_Picture]] = {}
    for picture in sorted(pool, key=rank):
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
    kept: list[_Picture], given: set[str], sizes: tuple[float, float], seed: int, report: _Report
) -> tuple[dict[str, list[_Picture]], str]:
    """Pictures of train, validation, test, and a sentence on where the splits come from."""
    parts = {s: [p for p in kept if p.split == s] for s in ("train", "validation", "test")}
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


def _compare(parts: dict[str, list[_Picture]], report: _Report) -> dict[str, list[_Picture]]:
    """Only classes that train has; classes and identical pictures that splits share, or don't."""
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
    seen = {p.digest for p in parts["train"]}
    for split, before in (("validation", "train"), ("test", "train or validation")):
        n = sum(p.digest in seen for p in parts[split])
        if n:
            report.note(
                f"{n:,} × picture of {split} that is byte for byte in {before} too, kept, but it "
                "flatters every figure"
            )
        seen |= {p.digest for p in parts[split]}
    return parts


def _checked_splits(root: Path, found: list[_Picture]) -> set[str]:
    """The splits that folders name; ValueError where train or, beside validation, test lacks."""
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
    """Splits `train`, `validation`, `test` with `image` (paths, decoded when asked) and `label`.

    Class names are the folder names in lower case, sorted, as far as train has them. Splits that
    folders name are left as they are. Without test, `test_size` of every class is drawn by
    `seed`; without validation, `validation_size` of what is left in train. Before anything is
    drawn, copies of a picture are left out. Every split's `info.description` tells what was
    left out and why; `strict` raises it as ValueError at the first. Raises FileNotFoundError
    where there is no such folder, ValueError where a split would be empty.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; expected {_WANT}")
    if not (0 < test_size < 1 and 0 < validation_size < 1):
        raise ValueError(f"test_size {test_size}, validation_size {validation_size}: not in (0, 1)")
    report = _Report(strict)
    found, folders = _scan(root, report)
    given = _checked_splits(root, found)
    kept = _opened(found, report, progress)
    for split, label in sorted(folders - {(p.split, p.label) for p in kept}):
        report.note(f"{split or '.'}/{label}: a class folder without a picture that opens")
    parts, how = _parts(kept, given, (test_size, validation_size), seed, report)
    parts = _compare(parts, report)
    for split in [split for split, rows in parts.items() if not rows]:
        raise ValueError(report.text([f"{root}: no picture is left for {split}, because"]))
    left = sum(map(len, parts.values()))
    head = f"images: {left:,} of {len(found):,} pictures kept, {len(found) - left:,} left out"
    names = sorted({p.label for p in parts["train"]})
    splits = DatasetDict()
    for split in ("train", "validation", "test"):
        columns = {
            "image": [{"path": str(p.file), "bytes": None} for p in parts[split]],
            "label": [names.index(p.label) for p in parts[split]],
        }
        features = Features(image=Image(), label=ClassLabel(names=names))
        splits[split] = Dataset.from_dict(columns, features=features)
        splits[split].info.description = report.text([head, how])
    return splits


def _draw_noise(root: Path) -> None:
    """Two class folders of noise, one file of them cut short."""
    for label, count in {"Happy": 12, "sad": 8}.items():
        (root / label).mkdir()
        for k in range(count):
            PIL.Image.effect_noise((24, 24), 40 + k).save(root / label / f"{k:02}.png")
    data = (root / "sad" / "00.png").read_bytes()
    (root / "sad" / "00.png").write_bytes(data[: len(data) // 2])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:  # with no folder given, one that is made here
        if len(sys.argv) < 2:
            _draw_noise(Path(made))
        loaded = load(sys.argv[1] if len(sys.argv) > 1 else made)
    for name, rows in loaded.items():
        count = Counter(rows.features["label"].int2str(rows["label"][:]))
        print(f"{name:<11}{len(rows):6,d}  {dict(sorted(count.items()))}")
    print(loaded["train"].info.description)
