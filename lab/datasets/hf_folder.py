"""Read a folder in Hugging Face layout: parquet files named after their split, or `save_to_disk`.

Why: `load_dataset(folder)` copies everything into a cache and answers a wrong folder with a
guess. This reads the files where they lie, writes nothing (the folder may be read-only, the
machine offline) and names what is missing.
Source: written for this project. Needs datasets and pyarrow; copy freely (see LICENSE).

    python sources/hf_folder.py path/to/folder       # rows and classes of each split
"""

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, load_from_disk

__all__ = ["is_hf_folder", "load"]

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def _split_of(file: Path, root: Path) -> str | None:
    """`train-00000-of-00002.parquet`, `val.parquet` or `default/test/0000.parquet` → its split."""
    for part in reversed(file.relative_to(root).with_suffix("").parts):
        name = _SPLITS.get(re.split(r"[-_.]", part.lower())[0])
        if name:
            return name
    return None


def _parquet(root: Path) -> list[Path]:
    """Parquet files below `root`, at most three folders deep, in the order of their names."""
    found = [f for depth in ("", "*/", "*/*/") for f in root.glob(f"{depth}*.parquet")]
    return sorted(f for f in found if not any(p.startswith(".") for p in f.relative_to(root).parts))


def is_hf_folder(path: str | Path) -> bool:
    """Whether `load` knows this form: a `save_to_disk` folder, or parquet files inside."""
    root = Path(path)
    return root.is_dir() and ((root / "dataset_dict.json").is_file() or bool(_parquet(root)))


def _typed(rows: Dataset, where: str, class_names: Sequence[str] | None) -> Dataset:
    """`image` and `label` alone, as pictures and as named classes; ValueError where they aren't."""
    missing = [c for c in ("image", "label") if c not in rows.column_names]
    if missing:
        raise ValueError(f"{where} has no column {', '.join(missing)}; found {rows.column_names}")
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

    `class_names` names the classes of a label column that holds bare integers. `val`, `valid`
    and `dev` become `validation`; other splits and columns are left out. Parquet is held in
    memory, a `save_to_disk` folder stays mapped. Raises FileNotFoundError where there is no such
    folder or nothing known in it, ValueError for a split or column that is missing.
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
        tables = {_SPLITS.get(name, name): rows for name, rows in found.items()}
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
    missing = [s for s in ("train", "validation", "test") if s not in tables]
    if missing:
        raise ValueError(f"{root} has no split {', '.join(missing)}; found {list(found)}")
    return DatasetDict(
        {
            s: _typed(tables[s], f"{root} ({s})", class_names)
            for s in ("train", "validation", "test")
        }
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:  # with no folder given, one that is made here
        if len(sys.argv) < 2:
            few = Dataset.from_dict(
                {"image": [PIL.Image.new("L", (8, 8), k) for k in range(3)], "label": [0, 1, 1]}
            )
            few = few.cast(Features(image=Image(), label=ClassLabel(names=["happy", "sad"])))
            for wanted in ("train", "val", "test"):
                few.to_parquet(f"{made}/{wanted}-00000-of-00001.parquet")
        for name, rows in load(sys.argv[1] if len(sys.argv) > 1 else made).items():
            print(f"{name:<11}{len(rows):6d} rows of {', '.join(rows.features['label'].names)}")
