"""Read Parquet files piece by piece: a folder in Hugging Face layout, or a data set of the hub.

Why: the other readers need the whole table at hand, in memory or on this disk. Here a file's rows
come in pieces (`datasets.load_dataset(..., streaming=True)`), so that only some pieces are in
memory however large the set is, and nothing of a hub's set is kept on this machine.

Several files are read in turns, a piece of each, so that a set whose files hold one class each
comes mixed. Pictures stay encoded.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image, IterableDataset
from huggingface_hub import HfApi

from expression.file_kinds import special_kind
from lab.datasets import hf_folder, hub
from lab.datasets.splits import SPLITS, check_columns, rename_columns, split_name

__all__ = ["Cell", "Rows", "open_parquet"]

Cell = dict[str, Any] | None  # an encoded picture as `datasets` stores it: bytes, path or both
PIECE = 32  # rows that are read of one file before the next one's turn
MOST_OPEN = 4  # files that are read in turns; a row group of each is in memory


@dataclass(frozen=True)
class Rows:
    """One split: its rows can be read in order, again and again, but not by their number."""

    stream: IterableDataset
    labels: IterableDataset  # the label column alone
    where: str

    @property
    def class_names(self) -> list[str]:
        return list(self.stream.features["label"].names)

    @property
    def files(self) -> int:
        return self.stream.num_shards

    def count(self) -> int:
        """How many rows there are; reads the label column alone."""
        return sum(len(batch["label"]) for batch in self.labels.iter(10_000))

    def of_file(self, file: int) -> Iterator[tuple[Cell, int | None]]:
        """(encoded picture, label) of each row of one file, in order."""
        rows = self.stream.shard(self.files, file).with_format("arrow")
        try:
            for table in rows.iter(PIECE):
                yield from zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True)
        except (pa.ArrowException, datasets.exceptions.DatasetGenerationError) as error:
            told = str(error).splitlines()[0]
            raise ValueError(f"{self.where}, file {file} cannot be read: {told}") from error

    def in_order(self) -> Iterator[tuple[Cell, int | None]]:
        """The rows of all files, one file behind the other."""
        for file in range(self.files):
            yield from self.of_file(file)

    def in_turns(self, files: Sequence[int]) -> Iterator[tuple[Cell, int | None]]:
        """The rows of several files: `PIECE` of the first, of the second, and so on; at most
        `MOST_OPEN` files are open at a time."""
        waiting = list(files)[::-1]
        opened: list[Iterator[tuple[Cell, int | None]]] = []
        while waiting or opened:
            while waiting and len(opened) < MOST_OPEN:
                opened.append(self.of_file(waiting.pop()))
            for rows in list(opened):
                taken = 0
                for row in rows:
                    yield row
                    taken += 1
                    if taken == PIECE:
                        break
                else:
                    opened.remove(rows)


def open_parquet(where: str, timeout: float = 5.0) -> tuple[dict[str, Rows], str]:
    """({split: its rows}, a key that changes when a file does) of a folder or a hub id.

    Raises FileNotFoundError where there is neither, HubUnavailable for a hub that does not answer,
    ValueError for other forms of data, for a split that is missing, and for labels without names.
    """
    root = Path(where).expanduser()
    if root.exists():
        found, key = _of_folder(root)
    elif re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", where):
        found, key = _of_hub(where, timeout)
    else:
        raise FileNotFoundError(
            f"no folder {root}; --streaming reads a folder of Parquet files, or a hub id owner/name"
        )
    missing = [split for split in SPLITS if split not in found]
    if missing:
        raise ValueError(
            f"{where} has no split {', '.join(missing)}; found {', '.join(found) or 'none'}. With "
            "--streaming none is drawn from train: write the files of all three"
        )
    return {split: _rows(*found[split], f"{where} ({split})") for split in SPLITS}, key


Found = dict[str, tuple[IterableDataset, IterableDataset]]


def _of_folder(root: Path) -> tuple[Found, str]:
    files = hf_folder.parquet_files(root) if root.is_dir() else {}
    if not files:
        raise ValueError(
            f"{root} holds no Parquet files (data/train-00000-of-00100.parquet …), and --streaming "
            "reads no other form; leave it out, or write them with `Dataset.to_parquet`"
        )
    key, first = hashlib.sha256(), next(iter(files.values()))[0]
    names = _class_names(first)
    for split, paths in files.items():
        for path in paths:
            if (others := _class_names(path)) != names:
                raise ValueError(f"{path} names its classes {others}, but {first} {names}")
            told = path.stat()
            key.update(f"{split} {path.resolve()} {told.st_size} {told.st_mtime_ns}\0".encode())
    paths_of = {split: [str(path) for path in paths] for split, paths in files.items()}
    return _load("parquet", data_files=paths_of), key.hexdigest()


def _class_names(file: Path) -> list[str] | None:
    """The class names in the end of a Parquet file, where `datasets` writes them.

    `datasets` takes those of one file for all. Raises ValueError for what is no Parquet file.
    """
    try:
        if kind := special_kind(file):
            raise ValueError(f"a {kind}, not a file")
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    features = Features.from_arrow_schema(schema)
    return getattr(features.get("label", features.get("labels")), "names", None)


def _of_hub(repo_id: str, timeout: float) -> tuple[Found, str]:
    if reason := hub.why_not(repo_id, None, timeout):
        raise hub.HubUnavailable(
            f"data set {repo_id} cannot be streamed ({reason}), and there is no folder of that name"
        )
    commit = HfApi(endpoint=datasets.config.HF_ENDPOINT).dataset_info(repo_id, timeout=timeout).sha
    found = _load(repo_id, revision=commit)
    return found, hashlib.sha256(f"{repo_id} {commit}".encode()).hexdigest()


def _load(path: str, **options: Any) -> Found:
    """{split: (rows, the label column alone)}, splits by their names in SPLITS."""
    try:
        rows = datasets.load_dataset(path, streaming=True, **options)
        first = next(iter(rows.values()))
        label = "labels" if "labels" in first.column_names else "label"
        labels = datasets.load_dataset(path, streaming=True, columns=[label], **options)
    except ValueError as error:
        if "columns" not in str(error):
            raise ValueError(f"{path} cannot be streamed: {str(error).splitlines()[0]}") from error
        raise ValueError(
            f"{path} is not made of Parquet files, and --streaming reads nothing else; leave it out"
        ) from error
    named = {split: split_name(split) or split.lower() for split in rows}
    return {named[split]: (rows[split], labels[split]) for split in rows}


def _rows(stream: IterableDataset, labels: IterableDataset, where: str) -> Rows:
    """One split, checked. Raises ValueError for columns or labels that cannot be used."""
    for column in {"image", "img"} & set(stream.column_names):  # first: renaming would decode them
        try:
            stream = stream.cast_column(column, Image(decode=False))
        except (pa.ArrowException, TypeError, ValueError) as error:
            found = stream.features[column]
            raise ValueError(f"{where}: column {column} holds {found}, not pictures") from error
    stream, labels = rename_columns(stream), rename_columns(labels)
    check_columns(stream, where)
    stream = stream.select_columns(["image", "label"])
    label = stream.features["label"]
    if not isinstance(label, ClassLabel) or not label.names:
        raise ValueError(
            f"{where}: column label is {getattr(label, 'dtype', label)} without class names; with "
            "--streaming it must be a ClassLabel: write the files with `Dataset.to_parquet`"
        )
    return Rows(stream, labels, where)
