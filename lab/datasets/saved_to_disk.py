"""Read what `Dataset.save_to_disk` and `DatasetDict.save_to_disk` of Hugging Face wrote.

Why: `load_from_disk` ends in the trace of whatever library met a damaged file first, without its
name; and it maps Arrow files into memory unchecked, where a wrong offset is read as it stands. Here
each file is checked before it is used, so the one that is missing or damaged is named.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict

from expression.file_kinds import special_kind

__all__ = ["is_saved", "read"]

_SPLITS = "dataset_dict.json"  # of several splits, each in a folder of its own
_STATE, _INFO = "state.json", "dataset_info.json"  # of one split


def is_saved(root: Path) -> bool:
    """Whether a folder is one that `save_to_disk` wrote, of one split or several."""
    return (root / _SPLITS).is_file() or all((root / name).is_file() for name in (_STATE, _INFO))


def read(root: Path) -> DatasetDict:
    """The splits by their names, memory-mapped; a data set saved without splits is train.

    Raises ValueError that names the file that is missing, damaged or not as `save_to_disk` writes.
    """
    if not (root / _SPLITS).is_file():
        return DatasetDict({"train": _split(root)})
    names = _json(root / _SPLITS).get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{root / _SPLITS} has no list of splits; save the data again")
    return DatasetDict({name: _split(root / name) for name in names})


def _split(folder: Path) -> Dataset:
    parts = _json(folder / _STATE).get("_data_files")
    _json(folder / _INFO)
    try:
        files = [folder / str(part["filename"]) for part in parts or ()]
    except (TypeError, KeyError):
        raise ValueError(f"{folder / _STATE} has no list of files; save the data again") from None
    for file in files:
        _check_arrow(file)
    try:
        return Dataset.load_from_disk(str(folder))
    except Exception as error:  # whatever the wrong content of either JSON file leads to
        raise ValueError(f"{folder} cannot be read ({_first_line(error)})") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(_regular(file).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(file, error) from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds a {type(found).__name__}, not what save_to_disk writes")
    return found


def _check_arrow(file: Path) -> None:
    """Reads a file once, whole: lengths, offsets and texts; the pictures in it are not decoded."""
    try:
        with pa.memory_map(str(_regular(file))) as source:
            pa.ipc.open_stream(source).read_all().validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(file, error) from None


def _regular(file: Path) -> Path:
    if kind := special_kind(file):
        raise ValueError(f"a {kind}, not a file")
    return file


def _unreadable(file: Path, error: Exception) -> ValueError:
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{file} is missing; copy the whole folder again")
    return ValueError(f"{file} cannot be read ({_first_line(error)}); copy or save it again")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
