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
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, load_from_disk

from lab.datasets.splits import SPLITS, check_columns, rename_splits, split_name

__all__ = ["is_hf_folder", "load"]


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


def is_hf_folder(path: str | Path) -> bool:
    """Whether `load` can read this: a `save_to_disk` folder, or one with parquet files."""
    root = Path(path)
    return root.is_dir() and ((root / "dataset_dict.json").is_file() or bool(_parquet(root)))


def _typed(rows: Dataset, where: str, class_names: Sequence[str] | None) -> Dataset:
    """Only `image` and `label`, as pictures and named classes; ValueError where they are not."""
    check_columns(rows, where)
    rows = rows.select_columns(["image", "label"])
    if not isinstance(rows.features["image"], Image):  # bare bytes, or the struct under an Image
        try:
            rows = rows.cast_column("image", Image())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
            raise ValueError(
                f"{where}: column image holds {rows.features['image']}, not encoded pictures"
            ) from error
    kind = rows.features["label"]
    if class_names is not None:
        if getattr(kind, "names", list(class_names)) != list(class_names):
            raise ValueError(f"{where} names its classes {kind.names}, not {list(class_names)}")
        features = rows.features | {"label": ClassLabel(names=list(class_names))}
        return rows.cast(Features(features), keep_in_memory=True, load_from_cache_file=False)
    if not isinstance(kind, ClassLabel):
        raise ValueError(
            f"{where}: column label is {getattr(kind, 'dtype', kind)} without class "
            "names; say what the numbers mean by class_names=[...], in their order"
        )
    return rows


def load(path: str | Path, class_names: Sequence[str] | None = None) -> DatasetDict:
    """Splits `train`, `validation`, `test` with `image` and `label` (a ClassLabel with names).

    `class_names` names the classes of a label column that holds bare integers. Split names such
    as `val` are understood; other splits and columns are left out. Parquet files are read into
    memory, a `save_to_disk` folder stays memory-mapped. Raises FileNotFoundError without the
    folder or without such files in it, ValueError for a missing split or column.
    """
    root = Path(path).expanduser()
    want = (
        "parquet files named after their split, as data/train-00000-of-00001.parquet, "
        "or what DatasetDict.save_to_disk writes"
    )
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; expected {want}")
    if (root / "dataset_dict.json").is_file():
        found = load_from_disk(str(root))
        tables = rename_splits(found)
    else:
        files = _parquet(root)
        if not files:
            inside = sorted(p.name for p in root.iterdir())[:8]
            raise FileNotFoundError(f"{root} holds {inside or 'nothing'}; expected {want}")
        parts: dict[str, list[pa.Table]] = {}
        for file in files:
            split = _split_of(file, root)
            if split:
                parts.setdefault(split, []).append(pq.read_table(file))
        tables = {split: Dataset(pa.concat_tables(p)) for split, p in parts.items()}
        found = [str(f.relative_to(root)) for f in files]
    missing = [s for s in SPLITS if s not in tables]
    if missing:
        raise ValueError(f"{root} has no split {', '.join(missing)}; found {list(found)}")
    return DatasetDict({s: _typed(tables[s], f"{root} ({s})", class_names) for s in SPLITS})
