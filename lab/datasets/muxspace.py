"""Read a clone of the Muxspace facial-expression repository as it is, mess included.

Why: its legend mixes HAPPINESS and happiness, repeats rows and labels one picture twice; and a
split drawn by picture puts two test faces in three beside other pictures of the same person in
train (George W. Bush has 520, an actor 198 frames of his films), so it tests memory as much as
sight. This reader cleans to the seven classes of FER2013, counts what it leaves out and why,
and keeps each person, told by the file name, in one split while class shares stay even.
Source: written for this project; the data: github.com/muxspace/facial_expressions (Apache-2.0).
Needs datasets, pillow and tqdm; copy freely (MIT, see LICENSE).

    python sources/muxspace.py path/to/facial_expressions-master.tar     # or .zip, or the folder
"""

import csv
import hashlib
import io
import math
import re
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import PIL.Image
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from tqdm import tqdm

__all__ = ["CLASS_NAMES", "is_muxspace", "load"]

_CLASSES = {  # the legend's word → ours, in the order of FER2013
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprise",
    "neutral": "neutral",
}
CLASS_NAMES = tuple(_CLASSES.values())
_HEADER = ["user.id", "image", "emotion"]
_ARCHIVE = re.compile(r".*\.(tar|tar\.gz|tgz|zip)", re.IGNORECASE)
_MEMBER = re.compile(r"(?:\./)?(?:([^/]+)/)?(images/[^/]+|data/legend\.csv)")
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError)
_LARGEST = 64 << 20  # bytes; a larger member is no picture of a face
_SHOWN = 20


@dataclass(frozen=True)
class _Row:
    number: int  # of the legend's line, the header being 1
    image: str
    label: str  # our class name, or the legend's word where there is none

    def __str__(self) -> str:
        return f"row {self.number} ({self.image}, {self.label})"


@dataclass(frozen=True)
class _Face:
    row: _Row
    image: dict[str, bytes | str | None]  # as datasets.Image stores it
    digest: bytes

    @property
    def person(self) -> str:
        """Aaron_Eckhart_0001.jpg → Aaron_Eckhart."""
        stem = Path(self.row.image).stem
        return re.sub(r"[\W_]*\d+[a-z]?$", "", stem) or stem


@dataclass
class _Report:
    """Reasons and where each was met; raised at once, as a ValueError, where `strict`."""

    strict: bool
    met: dict[str, list[str]] = field(default_factory=dict)

    def __call__(self, reason: str, where: object) -> None:
        reason, where = (str(t).encode(errors="backslashreplace").decode() for t in (reason, where))
        if self.strict:
            raise ValueError(f"{reason}: {where} (refused by strict=True)")
        self.met.setdefault(reason, []).append(where)

    def text(self, *head: str) -> str:
        lines = [
            f"{len(places):,} × {reason}: {', '.join(places[:3])}{', …' * (len(places) > 3)}"
            for reason, places in self.met.items()
        ]
        more = [f"… and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
        return "\n".join([*head, *lines[:_SHOWN], *more])


def _members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes] | None]]:
    """(name, bytes, how to read it) of an archive's members; None for a link or a device.

    Nothing is extracted, so no name can lead out of a folder.
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
    """Whether `load` knows this form: a clone, a folder around one, or its .tar, .tar.gz, .zip."""
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            return bool(_clones(path))
        if not (path.is_file() and _ARCHIVE.fullmatch(path.name)):
            return False
        seen: dict[str | None, set[str]] = {}  # top folder → which of the two it has
        for name, _, _ in _members(path):
            if found := _MEMBER.fullmatch(name):
                seen.setdefault(found[1], set()).add(found[2][:6])
                if len(seen[found[1]]) == 2:
                    return True
    except _DAMAGED:
        pass
    return False


def _unpacked(path: Path, report: _Report) -> list[dict[str, bytes | Path]]:
    """{images/… or data/legend.csv: bytes} of each clone in an archive, read in one pass."""
    tops: dict[str | None, dict[str, bytes | Path]] = {}
    try:
        for name, size, read in _members(path):
            if not (found := _MEMBER.fullmatch(name)):
                continue
            if read is None or size > _LARGEST:
                why = "link or device" if read is None else f"larger than {_LARGEST >> 20} MiB"
                report(f"archive member not read ({why})", name)
                continue
            tops.setdefault(found[1], {})[found[2]] = read()
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged, or no archive ({error})") from error
    return [files for files in tops.values() if "data/legend.csv" in files]


def _read(path: Path, report: _Report) -> tuple[bytes, dict[str, bytes | Path]]:
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


def _labelled(legend: bytes, report: _Report) -> tuple[list[_Row], int]:
    """Rows with the classes' names, and how many rows the legend has below its header."""
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
            report("header row amid the rows, left out", where)
            continue
        if len(cells) != 3 or not cells[1].strip():
            report("row without user.id, image and emotion, left out", where)
            continue
        word = cells[2].strip().lower()
        if word != cells[2]:
            report("label in capitals or with spaces, read without", where)
        rows.append(_Row(number, cells[1].strip(), _CLASSES.get(word, word)))
    return rows, len(table) - 1


def _agreed(rows: list[_Row], report: _Report) -> list[_Row]:
    """One row a picture, of a known class."""
    by_image: dict[str, list[_Row]] = {}
    for row in rows:
        by_image.setdefault(row.image, []).append(row)
    kept = []
    for first, *more in by_image.values():
        if any(row.label != first.label for row in more):
            for row in (first, *more):
                report("picture with contradicting labels, all its rows left out", row)
            continue
        for row in more:
            report("row that repeats an earlier one, left out", row)
        if first.label in CLASS_NAMES:
            kept.append(first)
        else:
            report(f"label {first.label!r}, none of the seven classes, left out", first)
    return kept


def _opened(
    rows: list[_Row], files: dict[str, bytes | Path], report: _Report, progress: bool
) -> list[_Face]:
    """Faces whose pictures decode to the last row of pixels, by file name."""
    faces = []
    ordered = sorted(rows, key=lambda row: row.image)
    for row in tqdm(ordered, desc="checking pictures", unit="", disable=not progress):
        if row.image not in files:
            report("picture missing in images/, left out", row)
            continue
        file = files[row.image]
        try:
            data = file.read_bytes() if isinstance(file, Path) else file
            with PIL.Image.open(io.BytesIO(data)) as image:
                image.load()
        except Exception:  # a broken file raises nearly anything, by its format
            report("picture does not open, left out", row)
            continue
        stored = {"path": row.image, "bytes": data}
        if isinstance(file, Path):
            stored = {"path": str(file), "bytes": None}
        faces.append(_Face(row, stored, hashlib.sha256(data).digest()))
    return faces


def _distinct(faces: list[_Face], report: _Report) -> list[_Face]:
    """One of each set of identical pictures; none where their labels differ."""
    same: dict[bytes, list[_Face]] = {}
    for face in faces:
        same.setdefault(face.digest, []).append(face)
    kept = []
    for first, *more in same.values():
        if any(face.row.label != first.row.label for face in more):
            for face in (first, *more):
                report("identical pictures with contradicting labels, left out", face.row)
            continue
        kept.append(first)
        for face in more:
            where = f"{face.row} = {first.row.image}"
            report("copy of a picture under another name, left out", where)
    return kept


def _split(
    faces: list[_Face], shares: dict[str, float], seed: int, by_person: bool
) -> dict[str, list[_Face]]:
    """Each person into the split that, for its size, misses that person's classes most.

    Those who hold the largest part of a class come first, while every split has room (three
    actors hold 83 % of disgust); equals in the order of a hash of `seed` and name, which is the
    same on any machine and in any version of any library.
    """
    total = Counter(face.row.label for face in faces)
    people: dict[str, list[_Face]] = {}
    for face in faces:
        people.setdefault(face.person if by_person else face.row.image, []).append(face)
    held = {
        name: {k: n / total[k] for k, n in Counter(face.row.label for face in own).items()}
        for name, own in people.items()
    }
    room = {split: dict.fromkeys(total, share) for split, share in shares.items()}
    parts: dict[str, list[_Face]] = {split: [] for split in shares}

    def turn(name: str) -> tuple[float, bytes]:
        return -max(held[name].values()), hashlib.sha256(f"{seed}/{name}".encode()).digest()

    for name in sorted(people, key=turn):
        gain = {  # how much nearer the shares wanted are then; fsum: the same in every Python
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
    allow; `by_person=False` draws by picture, as others have done. A clone in a folder gives
    pictures by path, an archive their bytes. Every split's `info.description` tells what was
    left out and why; `strict` raises it as ValueError at the first, which the original has too.
    Raises FileNotFoundError where there is nothing, ValueError for what is no clone or damaged.
    """
    root = Path(path).expanduser().resolve()
    shares = {"train": 1 - validation_size - test_size, "validation": validation_size}
    shares["test"] = test_size
    if not all(0 < share < 1 for share in shares.values()):
        raise ValueError(f"shares of the splits are {shares}; each must lie in (0, 1)")
    if not root.exists():
        raise FileNotFoundError(f"no clone {root}: neither a folder nor an archive")
    report = _Report(strict)
    legend, files = _read(root, report)
    rows, total = _labelled(legend, report)
    for name in sorted(files.keys() - {row.image for row in rows}):
        report("file in images/ without a row, left out", name)
    faces = _distinct(_opened(_agreed(rows, report), files, report, progress), report)
    parts = _split(faces, shares, seed, by_person)
    for split, own in parts.items():
        for label in [k for k in CLASS_NAMES if k not in {face.row.label for face in own}]:
            report("class without a picture in a split", f"{label} in {split}")
    for split in [split for split, own in parts.items() if not own]:
        do = "; too few people? by_person=False draws by picture" if by_person and faces else ""
        raise ValueError(report.text(f"{root}: no face is left for {split}{do}; met on the way:"))
    head = f"rows: {len(faces):,} of {total:,} in data/legend.csv kept, {total - len(faces):,} left"
    people = f"{len({face.person for face in faces}):,} people by file name"
    how = f"splits: drawn by {'person, ' + people if by_person else 'picture'}, seed {seed}"
    features = Features(image=Image(), label=ClassLabel(names=list(CLASS_NAMES)))
    splits = DatasetDict()
    for split, own in parts.items():
        labels = [CLASS_NAMES.index(face.row.label) for face in own]
        columns = {"image": [face.image for face in own], "label": labels}
        splits[split] = Dataset.from_dict(columns, features=features)
        splits[split].info.description = report.text(f"{head} out", how)
    return splits


def _draw_noise(root: Path) -> None:
    """A small clone in which every kind of mess is met."""
    (root / "images").mkdir()
    (root / "data").mkdir()
    rows = []
    for k in range(70):
        name = f"Person_{'ABCDEFGHIJ'[k % 10]}{k // 20}_{k:04}.jpg"
        PIL.Image.effect_noise((32, 32), 40 + k).save(root / "images" / name)
        rows.append([str(k % 3), name, list(_CLASSES)[k // 10]])
    rows[3][2] = "ANGER"
    rows[5:5] = [_HEADER, rows[4], ["1", rows[9][1], "fear"], ["1", "Nobody_0001.jpg", "anger"]]
    rows[40][2] = "contempt"
    (root / "images" / rows[50][1]).write_bytes(b"no picture")
    with (root / "data" / "legend.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_HEADER, *rows])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:  # with no clone given, one that is made here
        if len(sys.argv) < 2:
            _draw_noise(Path(made))
        loaded = load(sys.argv[1] if len(sys.argv) > 1 else made)
    for name, rows in loaded.items():
        count = Counter(rows.features["label"].int2str(rows["label"][:]))
        print(f"{name:<11}{len(rows):6,d}  { ({k: count[k] for k in CLASS_NAMES}) }")
    print(loaded["train"].info.description)
