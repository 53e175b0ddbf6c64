"""Read a clone of the Muxspace facial-expression repository as it is.

Why: its legend mixes HAPPINESS and happiness, repeats rows and labels one picture twice; and when
pictures are split at random, two test faces in three show a person who is in train, too (George W.
Bush has 520 pictures, an actor 198 frames of his films), so recognising people helps. This reader
keeps the seven classes of FER2013, counts what it leaves out and why, and puts each person, known
by the file name, into one split while class shares stay even.
The data: github.com/muxspace/facial_expressions (Apache-2.0).
"""

import csv
import io
import math
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import DatasetDict
from tqdm import tqdm

from lab.class_names import canonical
from lab.datasets.fer2013 import CLASS_NAMES
from lab.datasets.reading import LARGEST, Report, distinct, picture_content, picture_digest
from lab.datasets.splits import build_split, seeded_hash

__all__ = ["CLASS_NAMES", "is_muxspace", "load"]

_HEADER = ["user.id", "image", "emotion"]
_ARCHIVE = re.compile(r".*\.(tar|tar\.gz|tgz|zip)", re.IGNORECASE)
_MEMBER = re.compile(r"(?:\./)?(?:([^/]+)/)?(images/[^/]+|data/legend\.csv)")
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError)


@dataclass(frozen=True)
class _Row:
    number: int  # of the legend's line, the header being 1
    image: str
    label: str  # one of CLASS_NAMES, or the legend's word for anything else

    def __str__(self) -> str:
        return f"row {self.number} ({self.image}, {self.label})"


@dataclass(frozen=True)
class _Face:
    row: _Row
    image: dict[str, bytes | str | None]  # as datasets.Image stores it
    digest: bytes

    @property
    def label(self) -> str:
        return self.row.label

    @property
    def person(self) -> str:
        """Aaron_Eckhart_0001.jpg → Aaron_Eckhart."""
        stem = Path(self.row.image).stem
        return re.sub(r"[\W_]*\d+[a-z]?$", "", stem) or stem


def _members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes] | None]]:
    """(name, bytes, how to read it) of an archive's members; None for a link or a device.

    Nothing is extracted, so no member can be written outside a folder.
    """
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield info.filename, info.file_size, partial(archive.read, info)
    else:
        with tarfile.open(path) as archive:
            for m in archive:
                if not m.isdir():
                    yield m.name, m.size, partial(_content, archive, m) if m.isfile() else None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""


def _clones(folder: Path) -> list[Path]:
    """Folders with images/ and data/legend.csv: this one, or those one level below."""
    own = folder / "data" / "legend.csv"
    legends = [own] if own.is_file() else sorted(folder.glob("*/data/legend.csv"))
    return [p.parents[1] for p in legends if (p.parents[1] / "images").is_dir()]


def is_muxspace(path: str | Path) -> bool:
    """Whether `load` can read this: a clone, a folder around one, or its .tar, .tar.gz, .zip."""
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            return bool(_clones(path))
        if not (path.is_file() and _ARCHIVE.fullmatch(path.name)):
            return False
        parts: dict[str | None, set[str]] = {}  # top folder → which of the two it has
        for name, _, _ in _members(path):
            if found := _MEMBER.fullmatch(name):
                parts.setdefault(found[1], set()).add(found[2][:6])
                if len(parts[found[1]]) == 2:
                    return True
    except _DAMAGED:
        pass
    return False


def _unpacked(path: Path, report: Report) -> list[dict[str, bytes | Path]]:
    """{images/… or data/legend.csv: bytes} of each clone in an archive, read in one pass."""
    tops: dict[str | None, dict[str, bytes | Path]] = {}
    try:
        for name, size, read in _members(path):
            if not (found := _MEMBER.fullmatch(name)):
                continue
            if read is None or size > LARGEST:
                why = "link or device" if read is None else f"larger than {LARGEST >> 20} MiB"
                report.count(f"archive member not read ({why})", name)
                continue
            tops.setdefault(found[1], {})[found[2]] = read()
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged, or no archive ({error})") from error
    return [files for files in tops.values() if "data/legend.csv" in files]


def _read(path: Path, report: Report) -> tuple[bytes, dict[str, bytes | Path]]:
    """The legend, and {file name: bytes or path} of images/."""
    if path.is_dir():
        clones: list[dict[str, bytes | Path]] = [
            {
                "data/legend.csv": (top / "data" / "legend.csv").read_bytes(),
                **{f"images/{p.name}": p for p in (top / "images").iterdir()},
            }
            for top in _clones(path)
        ]
    else:
        clones = _unpacked(path, report)
    if len(clones) != 1:
        raise ValueError(f"{path} holds {len(clones)} clones (images/ and data/legend.csv), not 1")
    legend = clones[0].pop("data/legend.csv")
    if isinstance(legend, Path):
        legend = legend.read_bytes()
    files = {name.removeprefix("images/"): where for name, where in clones[0].items()}
    return legend, {name: where for name, where in files.items() if name[0] != "."}


def _labelled(legend: bytes, report: Report) -> tuple[list[_Row], int]:
    """Rows with class names, and how many rows the legend has below its header."""
    lines = csv.reader(io.StringIO(legend.decode("utf-8-sig", errors="replace"), newline=""))
    try:
        table = [(lines.line_num, cells) for cells in lines if cells]
    except csv.Error as error:
        raise ValueError(f"data/legend.csv row {lines.line_num}: {error}") from error
    if not table or [cell.strip().lower() for cell in table[0][1]] != _HEADER:
        found = ",".join(table[0][1]) if table else "nothing"
        raise ValueError(f"data/legend.csv begins with {found}; expected {','.join(_HEADER)}")
    rows = []
    for number, cells in table[1:]:
        where = f"row {number} ({','.join(cells)[:60]})"
        if [cell.strip().lower() for cell in cells] == _HEADER:
            report.count("header row amid the rows, left out", where)
            continue
        if len(cells) != 3 or not cells[1].strip():
            report.count("row without user.id, image and emotion, left out", where)
            continue
        word = cells[2].strip().lower()
        if word != cells[2]:
            report.count("label in capitals or with spaces, read without", where)
        rows.append(_Row(number, cells[1].strip(), canonical(word)))
    return rows, len(table) - 1


def _agreed(rows: list[_Row], report: Report) -> list[_Row]:
    """One row for each picture, of a known class."""
    by_image: dict[str, list[_Row]] = {}
    for row in rows:
        by_image.setdefault(row.image, []).append(row)
    kept = []
    for first, *more in by_image.values():
        if any(row.label != first.label for row in more):
            for row in (first, *more):
                report.count("picture with contradicting labels, all its rows left out", row)
            continue
        for row in more:
            report.count("row that repeats an earlier one, left out", row)
        if first.label in CLASS_NAMES:
            kept.append(first)
        else:
            report.count(f"label {first.label!r}, none of the seven classes, left out", first)
    return kept


def _opened(
    rows: list[_Row], files: dict[str, bytes | Path], report: Report, progress: bool
) -> list[_Face]:
    """Faces whose pixels all decode, in the order of their file names."""
    faces = []
    ordered = sorted(rows, key=lambda row: row.image)
    for row in tqdm(ordered, desc="checking pictures", unit="", disable=not progress):
        if row.image not in files:
            report.count("picture missing in images/, left out", row)
            continue
        file = files[row.image]
        try:
            data = picture_content(file) if isinstance(file, Path) else file
            digest = picture_digest(data)
        except Exception:  # decoders raise nearly any exception for a broken file
            report.count("picture does not open, left out", row)
            continue
        stored = {"path": row.image, "bytes": data}
        if isinstance(file, Path):
            stored = {"path": str(file), "bytes": None}
        faces.append(_Face(row, stored, digest))
    return faces


def _distinct(faces: list[_Face], report: Report) -> list[_Face]:
    """One of each set of identical pictures; none where their labels differ."""
    kept, copies, contradicting = distinct(faces)
    for first, face in copies:
        where = f"{face.row} = {first.row.image}"
        report.count("copy of a picture under another name, left out", where)
    for face in (face for group in contradicting for face in group):
        report.count("identical pictures with contradicting labels, left out", face.row)
    return kept


def _split(
    faces: list[_Face], shares: dict[str, float], seed: int, by_person: bool
) -> dict[str, list[_Face]]:
    """Each person into the split that, for its size, lacks that person's classes most.

    People with the largest part of a class come first, while every split has room (three actors
    have 83 % of disgust); ties in the order of `seeded_hash`.
    """
    total = Counter(face.label for face in faces)
    people: dict[str, list[_Face]] = {}
    for face in faces:
        people.setdefault(face.person if by_person else face.row.image, []).append(face)
    held = {  # name → the person's share of each class
        name: {k: n / total[k] for k, n in Counter(face.label for face in own).items()}
        for name, own in people.items()
    }
    room = {split: dict.fromkeys(total, share) for split, share in shares.items()}
    parts: dict[str, list[_Face]] = {split: [] for split in shares}

    def turn(name: str) -> tuple[float, bytes]:
        return -max(held[name].values()), seeded_hash(seed, name)

    for name in sorted(people, key=turn):
        gain = {  # how much closer to the shares asked for; fsum: the same in every Python
            split: math.fsum(n * (2 * room[split][k] - n) for k, n in held[name].items()) / share
            for split, share in shares.items()
        }
        best = max(gain, key=gain.__getitem__)
        parts[best] += people[name]
        for k, part in held[name].items():
            room[best][k] -= part
    return {split: sorted(own, key=lambda face: face.row.image) for split, own in parts.items()}


def load(
    path: str | Path,
    *,
    test_size: float = 0.15,
    validation_size: float = 0.15,
    seed: int = 0,
    strict: bool = False,
    progress: bool = True,
    by_person: bool = True,
) -> DatasetDict:
    """Splits `train`, `validation`, `test` with `image` and `label` (`CLASS_NAMES`, in order).

    `test_size` and `validation_size` are shares of every class, as nearly as whole people
    allow; `by_person=False` draws by picture, as others have done. Pictures of a folder are stored
    as paths, those of an archive as bytes. Every split's `info.description` says what was left out
    and why; with `strict` the first such thing raises ValueError (the original has some).
    Raises FileNotFoundError for a missing path, ValueError for one that is no clone or damaged.
    """
    root = Path(path).expanduser().resolve()
    shares = {"train": 1 - validation_size - test_size, "validation": validation_size}
    shares["test"] = test_size
    if not all(0 < share < 1 for share in shares.values()):
        raise ValueError(f"shares of the splits are {shares}; each must lie in (0, 1)")
    if not root.exists():
        raise FileNotFoundError(f"no clone {root}: neither a folder nor an archive")
    report = Report(strict)
    legend, files = _read(root, report)
    rows, total = _labelled(legend, report)
    for name in sorted(files.keys() - {row.image for row in rows}):
        report.count("file in images/ without a row, left out", name)
    faces = _distinct(_opened(_agreed(rows, report), files, report, progress), report)
    parts = _split(faces, shares, seed, by_person)
    for split, own in parts.items():
        for label in [k for k in CLASS_NAMES if k not in {face.label for face in own}]:
            report.count("class without a picture in a split", f"{label} in {split}")
    if empty := [split for split, own in parts.items() if not own]:
        do = "; too few people? by_person=False draws by picture" if by_person and faces else ""
        raise ValueError(
            report.text(f"{root}: no face is left for {empty[0]}{do}; met on the way:")
        )
    head = f"rows: {len(faces):,} of {total:,} in data/legend.csv kept, {total - len(faces):,} left"
    people = f"{len({face.person for face in faces}):,} people by file name"
    how = f"splits: drawn by {'person, ' + people if by_person else 'picture'}, seed {seed}"
    splits = DatasetDict()
    for split, own in parts.items():
        labels = [CLASS_NAMES.index(face.label) for face in own]
        splits[split] = build_split([face.image for face in own], labels, list(CLASS_NAMES))
        splits[split].info.description = report.text(f"{head} out", how)
    return splits
