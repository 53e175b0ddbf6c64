"""Read a folder in Hugging Face layout: parquet files named after their split, or `save_to_disk`.

Why: `load_dataset(folder)` copies everything into a cache and guesses when the folder has another
layout. This reads the files where they are, writes nothing (the folder may be read-only, the
machine offline) and names what is missing.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict

from expression.file_kinds import special_kind
from lab.datasets import saved_to_disk
from lab.datasets.splits import (
    SPLITS,
    check_columns,
    rename_columns,
    rename_splits,
    split_name,
)
from lab.datasets.table_rows import row_name, usable

__all__ = ["is_hf_folder", "load", "parquet_files"]


def _split_of(file: Path, root: Path) -> str | None:
    """`train-00000-of-00002.parquet`, `val.parquet` or `default/test/0000.parquet` → its split."""
    for part in reversed(file.relative_to(root).with_suffix("").parts):
        if name := split_name(re.split(r"[-_.]", part)[0]):
            return name
    return None


def _parquet(root: Path) -> list[Path]:
    """Parquet files below `root`, at most three folders deep, in the order of their names."""
    found = [f for depth in ("", "*/", "*/*/") for f in root.glob(f"{depth}*.parquet")]
    return sorted(f for f in found if not any(p.startswith(".") for p in f.relative_to(root).parts))


def parquet_files(root: Path) -> dict[str, list[Path]]:
    """The Parquet files below `root` by their split; all are train where no name tells a split."""
    named = {file: _split_of(file, root) for file in _parquet(root)}
    if not any(named.values()):  # as on the hub
        named = dict.fromkeys(named, "train")
    found: dict[str, list[Path]] = {}
    for file, split in named.items():
        if split:
            found.setdefault(split, []).append(file)
    return found


def is_hf_folder(path: str | Path) -> bool:
    """Whether `load` can read this: a `save_to_disk` folder, or one with parquet files."""
    root = Path(path)
    return root.is_dir() and (saved_to_disk.is_saved(root) or bool(_parquet(root)))


def _table(file: Path) -> pa.Table:
    """A parquet file without its dictionaries (pandas' categories); ValueError says its name."""
    if kind := special_kind(file):
        raise ValueError(f"{file} is a {kind}, not a file")
    try:
        table = pq.read_table(file)
        for place, column in enumerate(table.schema):
            if pa.types.is_dictionary(column.type):
                values = table[column.name].cast(column.type.value_type)
                table = table.set_column(place, column.name, values)
        return table
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


class _Shards:
    """The parquet files of each split, one behind the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tables = {
            split: [(file.relative_to(root).as_posix(), _table(file)) for file in files]
            for split, files in parquet_files(root).items()
        }

    def splits(self) -> dict[str, Dataset]:
        return {split: self._joined(parts) for split, parts in self.tables.items()}

    def _joined(self, parts: Sequence[tuple[str, pa.Table]]) -> Dataset:
        try:
            return Dataset(pa.concat_tables([table for _, table in parts]))
        except (pa.ArrowException, ValueError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise ValueError(
                f"{self.root}: {', '.join(file for file, _ in parts)} cannot be one split: {first}"
            ) from error

    def row_name(self, split: str, row: int) -> str:
        """A row of a split by its file and its row there."""
        for file, table in self.tables[split]:
            if row < len(table):
                return f"{file} row {row}"
            row -= len(table)
        raise IndexError(f"{split} has no row {row} more")


def load(
    path: str | Path,
    class_names: Sequence[str] | None = None,
    *,
    test_size: float = 0.25,
    validation_size: float = 0.1,
    seed: int = 0,
    strict: bool = False,
    progress: bool = False,
) -> DatasetDict:
    """Splits `train`, `validation`, `test` with `image` and `label` (a ClassLabel with names).

    `class_names` names the classes of a label column that holds bare integers. Split names such
    as `val` are understood, and files that name no split are train; other splits and columns are
    left out. Parquet files are read into memory, a `save_to_disk` folder stays memory-mapped.
    Missing splits are drawn as for image folders, and rows that cannot be used are left out, see
    `table_rows.usable`. Raises FileNotFoundError without the folder or without such files in it,
    ValueError for a file that cannot be read and as `usable` does.
    """
    root = Path(path).expanduser()
    want = (
        "parquet files named after their split, as data/train-00000-of-00001.parquet, "
        "or what save_to_disk writes"
    )
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; expected {want}")
    name, folders = row_name, [root]
    if saved_to_disk.is_saved(root):
        tables = rename_splits(saved_to_disk.read(root))
    else:
        files = _parquet(root)
        if not files:
            inside = sorted(p.name for p in root.iterdir())[:8]
            raise FileNotFoundError(f"{root} holds {inside or 'nothing'}; expected {want}")
        shards = _Shards(root)
        tables, name = shards.splits(), shards.row_name
        folders += sorted({file.parent for file in files} - {root})
    for split in [s for s in SPLITS if s in tables]:
        tables[split] = rename_columns(tables[split])
        check_columns(tables[split], f"{root} ({split})")
        tables[split] = tables[split].select_columns(["image", "label"])
    return usable(
        tables, str(root), class_names=class_names, name=name, folders=folders,
        sizes=(test_size, validation_size), seed=seed, strict=strict, progress=progress,
    )  # fmt: skip
