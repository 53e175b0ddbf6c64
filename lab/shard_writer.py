"""Write any data set that the laboratory reads as shards of decoded pictures.

One picture is in memory at a time, so a streamed set of any size can be written. A run that was
cut off is gone on with: shards that are whole stay. `lab.shards` reads the folder.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image
from tqdm import tqdm

from expression.files import atomic_write
from expression.kept_files import is_whole, keep_file
from expression.preprocessing import Preprocess
from lab.data import Faces, Packed
from lab.duplicates import picture_of
from lab.shards import ABOUT, SPLITS, rule_of, shard_names
from lab.stream_survey import decoded_picture
from lab.streaming import Streamed

__all__ = ["SHARD_BYTES", "write_shards"]

BEGUN = "begun.json"  # what the shards are of, until shards.json says that all are there
SHARD_BYTES = 256 << 20  # of one file at most

Picture = Callable[[], Image.Image]  # decodes it


def write_shards(
    faces: Faces, folder: Path, rule: Preprocess, shard_bytes: int = SHARD_BYTES
) -> Path:
    """All three splits of a data set in `folder`, which is made or gone on with.

    Raises ValueError for a folder that holds something else, naming it, and for a picture that
    does not open, naming its row.
    """
    bands = len(rule.pixels(Image.new("RGB", (8, 8))))
    shape = (bands, rule.size, rule.size)
    most = max(1, shard_bytes // (bands * rule.size**2))
    counts = {split: len(faces.labels(split)) for split in SPLITS}
    votes = faces.vote_counts("train")
    about: dict[str, Any] = {
        "name": faces.name, "fingerprint": faces.fingerprint, "cleaned": faces.cleaned,
        "class_names": faces.class_names, "crop": faces.crop, "rule": rule_of(rule),
        "shape": list(shape), "vote_names": list(votes[1]) if votes else [],
        "splits": {split: {"shards": [min(most, n - k) for k in range(0, n, most)]}
                   for split, n in counts.items()},
    } | ({"merged": True} if faces.merged else {})  # fmt: skip
    _begin(folder, about)
    with tqdm(total=sum(counts.values()), unit=" faces", disable=None) as bar:
        for split in SPLITS:
            _write_split(faces, split, folder, rule, about["splits"][split]["shards"], shape, bar)
    _write_json(folder / ABOUT, about)
    (folder / BEGUN).unlink()
    return folder


def _begin(folder: Path, about: dict[str, Any]) -> None:
    """Raises ValueError for a folder with other content than an earlier try at the same shards."""
    inside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not inside:
        _write_json(folder / BEGUN, about)
    elif BEGUN not in inside:
        raise ValueError(f"{folder} holds {', '.join(inside[:3])}; give a new folder with --to")
    elif json.loads((folder / BEGUN).read_text(encoding="utf-8")) != about:
        raise ValueError(
            f"{folder} holds the beginning of other shards: of other data, or at another size. "
            "Delete it, or give a new folder with --to"
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _write_split(
    faces: Faces, split: str, folder: Path, rule: Preprocess, counts: list[int],
    shape: tuple[int, ...], bar: tqdm,
) -> None:  # fmt: skip
    pictures, first = _pictures(faces, split), 0
    for name, count in zip(shard_names(split, len(counts)), counts, strict=True):
        path, mine = folder / name, islice(pictures, count)
        if is_whole(path):
            bar.update(sum(1 for _ in mine))
        else:
            with keep_file(path) as part:
                _write_shard(part, mine, rule, (count, *shape), f"{split} row", first, bar)
        first += count
    _write_array(folder / f"{split}-labels.npy", faces.labels(split).numpy().astype(np.uint16))
    if split != "train":
        _write_array(folder / f"{split}-in_train.npy", faces.in_train[split])
    if (votes := faces.vote_counts(split)) is not None:
        _write_array(folder / f"{split}-votes.npy", votes[0].numpy())


def _write_array(path: Path, values: np.ndarray) -> None:
    with keep_file(path) as part:
        np.save(part, values)


def _write_shard(
    path: Path, pictures: Iterator[Picture], rule: Preprocess, shape: tuple[int, ...],
    where: str, first: int, bar: tqdm,
) -> None:  # fmt: skip
    pixels = open_memmap(path, "w+", np.uint8, shape)
    for row in range(shape[0]):
        try:
            pixels[row] = rule.pixels(next(pictures)())
        except StopIteration:
            raise ValueError(f"{where} {first + row} is missing: the data changed") from None
        except (OSError, ValueError, AttributeError, TypeError, SyntaxError) as error:
            raise ValueError(f"{where} {first + row} does not open ({error})") from error
        bar.update()
    pixels.flush()


def _pictures(faces: Faces, split: str) -> Iterator[Picture]:
    """The pictures of a split in order, not yet decoded."""
    if isinstance(faces, Streamed) and split == "train":
        return (partial(decoded_picture, content) for content, _ in faces.train_rows())
    rows = faces.splits[split]
    if isinstance(faces, Packed):
        return (partial(_from_pixels, rows.pixels, row) for row in range(len(rows)))
    return (partial(_of_row, rows, row) for row in range(len(rows)))


def _from_pixels(pixels: Any, row: int) -> Image.Image:
    return picture_of(pixels[[row]][0].numpy())


def _of_row(rows: Any, row: int) -> Image.Image:
    return rows[row]["image"]
