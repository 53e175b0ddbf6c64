"""Broken data sets: a CSV table, parquet, a folder of pictures, one that was saved to disk."""

import csv
import io
import os
import random
import shutil
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, disable_progress_bars
from datasets import Image as ImageColumn
from PIL import Image

from expression.files import atomic_write
from lab import datasets
from tools.torture.cases import FileAttack, Wrong
from tools.torture.mutate import broken_bytes

__all__ = ["Attack", "drawn_faces", "write_folder"]

CLASSES = ("angry", "happy", "sad")
SPLITS = {"train": 12, "validation": 3, "test": 3}
SIDE = 48
CELLS = ("", "-1", "7", "1e9", "nan", "=1+1", '"', "\u202e", "\ud83d", "256 " * 9, "0 " * 2304)
FER_CLASSES = 7


def drawn_faces(count: int, side: int, seed: int) -> list[tuple[Image.Image, int]]:
    """Grey pictures with a mouth that bends as the class says; no two are the same."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = number % len(CLASSES)
        pixels = rng.integers(60, 90, (side, side), dtype=np.uint8)
        x = np.linspace(-1, 1, side // 2)
        rows = (0.7 * side + (label - 1) * side / 8 * (x**2 - 0.5)).astype(int)
        pixels[rows, np.arange(side // 4, side // 4 + len(x))] = 250
        found.append((Image.fromarray(pixels), label))
    return found


def write_folder(folder: Path, splits: dict[str, int], side: int, seed: int = 0) -> Path:
    """split/class/number.png."""
    for split, count in splits.items():
        for number, (image, label) in enumerate(drawn_faces(count, side, seed + len(split))):
            path = folder / split / CLASSES[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return folder


def write_parquet(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    for split, rows in rows_of_splits().items():
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def write_saved(folder: Path) -> Path:
    rows_of_splits().save_to_disk(folder)
    return folder


def rows_of_splits() -> DatasetDict:
    features = Features({"image": ImageColumn(), "label": ClassLabel(names=list(CLASSES))})
    made = {}
    for split, count in SPLITS.items():
        faces = drawn_faces(count, SIDE, len(split))
        columns: dict[str, list[Any]] = {"image": [], "label": [label for _, label in faces]}
        for image, _ in faces:
            file = io.BytesIO()
            image.save(file, "PNG")
            columns["image"].append({"bytes": file.getvalue(), "path": None})
        made[split] = Dataset.from_dict(columns, features=features)
    return DatasetDict(made)


def table_rows() -> list[list[str]]:
    """The rows of a table as Kaggle's fer2013.csv has them."""
    rows = [["emotion", "pixels", "Usage"]]
    usages = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
    for split, usage in usages.items():
        for number, (image, _) in enumerate(drawn_faces(FER_CLASSES, SIDE, len(split))):
            values = " ".join(map(str, np.asarray(image).ravel().tolist()))
            rows.append([str(number % FER_CLASSES), values, usage])
    return rows


def write_table(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        csv.writer(file).writerows(rows)
    return path


def move_away(path: Path, kind: int) -> None:
    """A file is gone, has a name that cannot be seen, or is a pipe or a device."""
    if kind == 0:
        path.rename(path.with_name(f"\u202e{path.name}"))
        return
    path.unlink()
    if kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to("/dev/null")


class Attack(FileAttack):
    count = 500
    control_every = 50

    def __init__(self, scratch: Path) -> None:
        disable_progress_bars()
        home = scratch / "whole"
        home.mkdir()
        self.rows = table_rows()
        self.whole = {
            "table": write_table(home / "fer2013.csv", self.rows),
            "folder": write_folder(home / "folder", SPLITS, SIDE),
            "parquet": write_parquet(home / "parquet"),
            "saved": write_saved(home / "saved"),
        }
        self.kinds = sorted(self.whole)
        self.first = {kind: self.load(self.whole[kind]) for kind in self.kinds}

    def load(self, path: Path) -> str:
        """Load data and open every picture that was kept; the data's fingerprint."""
        said: list[str] = []
        splits = datasets.load(str(path), say=said.append)
        for rows in splits.values():
            for row in rows:
                if min(row["image"].convert("L").size) < 1:
                    raise Wrong("a picture without pixels was kept")
                if not 0 <= row["label"] < len(rows.features["label"].names):
                    raise Wrong(f"label {row['label']} was kept")
        datasets.summary(splits)
        datasets.report(splits)
        return datasets.fingerprint(splits)

    def sentence(self, error: Exception) -> str:
        """As `experiments.py` prints it: a reader's list of rows stands behind the sentence."""
        return "; ".join(str(error).splitlines()[:2])

    def try_one(self, rng: random.Random, folder: Path) -> None:
        kind = rng.choice(self.kinds)
        path = folder / self.whole[kind].name
        if kind == "table" and rng.random() < 0.5:
            write_table(path, self.broken_rows(rng))
        elif kind == "table":
            content = self.whole[kind].read_bytes()
            path.write_bytes(broken_bytes(content, content[::-1], rng))
        else:
            shutil.copytree(self.whole[kind], path)
            self.break_some(path, rng)
        self.load(path)

    def broken_rows(self, rng: random.Random) -> list[list[str]]:
        rows = [list(row) for row in self.rows]
        for _ in range(rng.choice((1, 1, 2, 5))):
            row = rng.choice(rows)
            kind = rng.randrange(4)
            if kind == 0 and row:
                del row[rng.randrange(len(row))]
            elif kind == 1:
                row.append(rng.choice(CELLS))
            elif kind == 2:
                rows.remove(row)
            elif row:
                row[rng.randrange(len(row))] = rng.choice(CELLS)
        return rows

    def break_some(self, root: Path, rng: random.Random) -> None:
        """One to three files are broken, gone, renamed, or no files at all."""
        for _ in range(rng.choice((1, 1, 2, 3))):
            path = rng.choice(sorted(p for p in root.rglob("*") if p.is_file()))
            if rng.random() < 0.2:
                move_away(path, rng.randrange(4))
                continue
            content = path.read_bytes()
            with atomic_write(path) as file:
                file.write(broken_bytes(content, content[::-1], rng))

    def control(self, folder: Path) -> None:
        for kind in self.kinds:
            if self.load(self.whole[kind]) != self.first[kind]:
                raise Wrong(f"the whole {kind}")
