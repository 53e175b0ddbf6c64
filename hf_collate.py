"""Hugging Face rows → image batches: the plain way and the fast way.

Why: `datasets` yields dicts with PIL pictures; models want tensors.
`Collate` is the plain way: it carries its own transform, so training
augmentation cannot leak into validation and an edited notebook global cannot
change an old loader. `decode` and `Batches` are the fast way: every picture is
decoded and resized once into a uint8 memory-mapped file; batches are slices of
it, changed at random on the device by what you give (`augment.py`, for example).
Both take any transform; the fast way wants one in two steps (`PixelTransform`),
first to pixels, then by `mean` and `std`.
Source: written for this project.
Needs torch, numpy and pillow; copy freely (MIT, see LICENSE).
"""

import hashlib
import json
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

__all__ = ["Batches", "Collate", "Decoded", "PixelTransform", "decode", "normalise"]

# What changes training pictures: images (n, C, H, W) float32 in [0, 1] of a batch of `whole`, of
# which they are the `part` → the same, at any side; called with (images, generator, part, whole)
Changes = Callable[[Tensor, torch.Generator, slice, int], Tensor]
# What blends them: (images, probabilities (n, …), generator) → both, of the same shapes
Blend = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
DIGEST_BYTES = 32  # of SHA-256, at the end of a cache file


class PixelTransform(Protocol):
    """What `decode` needs of a transform: a picture to pixels, then the scale of the pixels.

    `mean` and `std`, one for each channel of the network, refer to pixel values in [0, 1].
    """

    @property
    def mean(self) -> Sequence[float]: ...

    @property
    def std(self) -> Sequence[float]: ...

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Picture → uint8 (bands, H, W), the same shape for every picture."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything that `pixels` depends on, as plain JSON values."""
        ...


@dataclass(frozen=True)
class Collate:
    """The plain way: `DataLoader(collate_fn=...)`; picklable, so workers can spawn.

    `transform` takes a PIL picture and returns a tensor or array (C, H, W), float32:
    a torchvision pipeline, for example. Returns images (N, C, H, W) and labels (N,) int64.
    Raises KeyError, listing the columns present, when one is missing; ValueError
    when a row holds no picture or the tensors of a batch differ in shape.
    """

    transform: Callable[[Image.Image], Tensor | np.ndarray]
    image_key: str = "image"
    label_key: str = "label"

    def __call__(self, rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        missing = {self.image_key, self.label_key} - rows[0].keys()
        if missing:
            raise KeyError(f"no column {sorted(missing)}; found {sorted(rows[0])}")
        tensors = []
        for number, row in enumerate(rows):
            image = row[self.image_key]
            if not isinstance(image, Image.Image):
                raise ValueError(
                    f"row {number} of the batch: {self.image_key!r} holds "
                    f"{type(image).__name__}, not a PIL picture"
                )
            tensors.append(torch.as_tensor(self.transform(image)))
        shapes = {tuple(t.shape) for t in tensors}
        if len(shapes) > 1:
            raise ValueError(
                f"pictures of one batch differ in shape: {sorted(shapes)}; "
                "let the transform resize them"
            )
        return torch.stack(tensors), torch.tensor([row[self.label_key] for row in rows])


@dataclass(frozen=True)
class Decoded:
    """One split, decoded once: pixels uint8 (N, bands, size, size), labels (N,) int64.

    `pixels` is backed by a memory-mapped file, so the split may be larger than memory.
    """

    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    preprocess: PixelTransform

    def __len__(self) -> int:
        return len(self.labels)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Float in [0, 1], (N, bands, H, W) → normalised (N, channels, H, W)."""
    centre = torch.tensor(mean, device=images.device).view(1, -1, 1, 1)
    spread = torch.tensor(std, device=images.device).view(1, -1, 1, 1)
    return (images - centre) / spread  # gray spreads over all channels here


def decode(
    dataset: Any,
    preprocess: PixelTransform,
    cache_dir: Path | str = ".expression_cache",
    *,
    image_key: str = "image",
    label_key: str = "label",
) -> Decoded:
    """Decode a `datasets.Dataset` once; later calls map the file and are instant.

    The file's name is a hash of the encoded pictures, their order and the resize
    rule, so changed data or settings never meet an old file. It is written beside
    and renamed: an interrupted call leaves nothing behind that could be taken for
    whole. It ends in a SHA-256 of name and pixels, which every call checks: a damaged
    file is decoded anew, with a warning. Labels without class names are named by their
    numbers, "0" up to the largest.
    Raises KeyError for a missing column, ValueError for a split without rows, and
    naming the row for a picture that does not open, pixels of another shape than the
    others', or a label that is no whole number or outside the classes.
    """
    from datasets import Image as ImageFeature

    if missing := {image_key, label_key} - set(dataset.column_names):
        raise KeyError(f"no column {sorted(missing)}; found {sorted(dataset.column_names)}")
    if not len(dataset):
        raise ValueError("the split has no rows: nothing to decode")
    given = torch.tensor(dataset[label_key][:])
    labels = given.long()
    for row in (given != labels).nonzero()[:1].flatten().tolist():
        raise ValueError(f"row {row}: label {given[row].item()} is no whole number")
    names = tuple(
        getattr(dataset.features[label_key], "names", None)
        or map(str, range(int(labels.max()) + 1))  # integers without names: "0", "1", …
    )
    for row in ((labels < 0) | (labels >= len(names))).nonzero()[:1].flatten().tolist():
        raise ValueError(
            f"row {row}: label {labels[row].item()} is outside the "
            f"{len(names)} classes {list(names)}"
        )

    raw = dataset.select_columns([image_key]).cast_column(image_key, ImageFeature(decode=False))
    rule = {k: v for k, v in preprocess.settings().items() if k not in ("mean", "std")}
    version = getattr(preprocess, "VERSION", 1)  # of the rule behind the settings
    key = hashlib.sha256(json.dumps([rule, version, Image.__version__], sort_keys=True).encode())
    for row in raw:
        key.update(encoded_bytes(row[image_key]))
    shape = (len(labels), *preprocess.pixels(Image.new("RGB", (8, 8))).shape)
    path = Path(cache_dir) / f"{key.hexdigest()[:20]}.u8"
    if not is_whole(path, math.prod(shape)):
        write_pixels(dataset.select_columns([image_key]), image_key, preprocess, shape, path)
    pixels = torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=torch.uint8)
    return Decoded(pixels.view(shape), labels, names, preprocess)


def encoded_bytes(value: dict[str, Any] | None) -> bytes:
    """The file's bytes behind an undecoded `datasets.Image` value."""
    if not value:
        return b""
    return value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()


def is_whole(path: Path, size: int) -> bool:
    """Whether a cache file holds `size` bytes of pixels and the digest that belongs to them."""
    if not path.exists() or path.stat().st_size != size + DIGEST_BYTES:
        return False
    digest, left = pixel_digest(path), size
    with path.open("rb") as file:
        while part := file.read(min(1 << 20, left)):
            digest.update(part)
            left -= len(part)
        if file.read() == digest.digest():
            return True
    warnings.warn(f"{path} is damaged: decoding the pictures again", stacklevel=3)
    return False


def pixel_digest(path: Path) -> Any:
    """A SHA-256 to be fed with pixels. It begins with the file's name, because a whole file under
    another name holds other pictures."""
    return hashlib.sha256(path.name.encode())


def write_pixels(
    dataset: Any, image_key: str, preprocess: PixelTransform, shape: tuple[int, ...], path: Path
) -> None:
    """Decode every row into `path`, then the digest: written beside, flushed, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    part, digest = path.with_suffix(f".{os.getpid()}.tmp"), pixel_digest(path)
    try:
        with part.open("wb") as file:
            for row in range(shape[0]):
                try:
                    pixels = preprocess.pixels(dataset[row][image_key])
                except (OSError, ValueError, AttributeError, TypeError, SyntaxError) as error:
                    raise ValueError(
                        f"row {row}: the picture does not open ({error}); "
                        "drop or mend it before decoding"
                    ) from error
                if (pixels.dtype, pixels.shape) != (np.uint8, shape[1:]):
                    raise ValueError(
                        f"row {row}: the transform gives {pixels.dtype} {pixels.shape}, not uint8 "
                        f"{shape[1:]} as for a blank picture; let it resize all"
                    )
                content = pixels.tobytes()
                file.write(content)
                digest.update(content)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete what killed calls of `write_pixels` left in a folder: their unfinished files.

    One is left alone while its process lives, or for ten minutes after its last write: its process
    may be on another machine that shares the folder.
    """
    for part in folder.glob("*.tmp"):
        found = re.fullmatch(r"[0-9a-f]{20}\.(\d+)\.tmp", part.name)
        try:
            if found and not is_alive(int(found[1])) and time.time() - part.stat().st_mtime > 600:
                part.unlink()
        except OSError:  # gone already, or open (Windows)
            continue


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs; False on Windows, where open files stay anyway."""
    if os.name == "nt":  # its `os.kill` would end the process
        return False
    try:
        os.kill(process, 0)
    except PermissionError:  # somebody else's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


@dataclass
class Batches:
    """The fast way: iterate over a `Decoded` split in batches, as a DataLoader would.

    Yields images (n, channels, size, size) float32, normalised, and labels (n,)
    int64, both on `device`. With `shuffle` the order, and with `augment` the
    changes, depend on `seed` and `epoch` alone; `epoch` counts itself up with
    each pass and may be set, to resume. With `mix` (mixup, for example) pictures of a batch are
    blended, and labels become probabilities (n, num_classes) before.
    With `order`, `shuffle` takes the rows at the indices that it returns, not each once.
    With `part`, only the slice that it returns for a batch of n pictures is yielded, with the
    same pictures and changes as in the whole batch: one of several processes takes its share.
    On an accelerator the uint8 pixels are moved there once when they take less than
    `resident_bytes`.
    """

    data: Decoded
    batch_size: int = 64
    shuffle: bool = False
    augment: Changes | None = None
    device: torch.device | str = "cpu"
    seed: int = 0
    indices: Sequence[int] | Tensor | None = None  # only these rows
    resident_bytes: int = 4 << 30
    epoch: int = field(default=0, kw_only=True)
    mix: Blend | None = field(default=None, kw_only=True)
    order: Callable[[torch.Generator], Tensor] | None = field(default=None, kw_only=True)
    part: Callable[[int], slice] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be 1 or more")
        self.device = torch.device(self.device)
        rows = range(len(self.data)) if self.indices is None else self.indices
        self.rows = torch.as_tensor(rows, dtype=torch.int64)
        self.num_classes = len(self.data.class_names)
        self.pixels, self.labels = self.data.pixels, self.data.labels
        if self.device.type != "cpu" and self.pixels.nbytes < self.resident_bytes:
            self.pixels, self.labels = self.pixels.to(self.device), self.labels.to(self.device)

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        rows = self.rows
        if self.shuffle and self.order is not None:
            rows = rows[self.order(generator)]
        elif self.shuffle:
            rows = rows[torch.randperm(len(rows), generator=generator)]
        for batch in rows.split(self.batch_size):
            count = len(batch)
            part = slice(None) if self.part is None else self.part(count)
            early = (
                part if self.mix is None else slice(None)
            )  # it blends pictures of the whole batch
            batch = batch[early].to(self.pixels.device)
            pixels = self.pixels[batch].to(self.device, non_blocking=True)
            labels = self.labels[batch].to(self.device, non_blocking=True)
            images = pixels.float() / 255
            if self.augment is not None:
                images = self.augment(images, generator, early, count)
            if self.mix is not None:
                if not labels.is_floating_point():
                    labels = F.one_hot(labels, self.num_classes).float()
                images, labels = self.mix(images, labels, generator)
                images, labels = images[part], labels[part]
            yield normalise(images, self.data.preprocess.mean, self.data.preprocess.std), labels


@dataclass(frozen=True)
class Gray:
    """The smallest `PixelTransform`: gray, squashed to a square, scaled to about [-1, 1]."""

    size: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def pixels(self, image: Image.Image) -> np.ndarray:
        small = image.convert("L").resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.asarray(small)[None]

    def __call__(self, image: Image.Image) -> Tensor:
        return (torch.tensor(self.pixels(image)).float() / 255 - 0.5) / 0.5

    def settings(self) -> dict[str, Any]:
        return {"gray": self.size}


def demonstrate() -> None:
    """Collate the same noise both ways: equal tensors, different pace."""
    import tempfile
    import time

    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    noise = np.random.default_rng(0).integers(0, 256, (512, 48, 48, 3), dtype=np.uint8)
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["even", "odd"])})
    rows = {"image": [Image.fromarray(x) for x in noise], "label": [i % 2 for i in range(512)]}
    dataset, gray = Dataset.from_dict(rows, features=features), Gray(32)
    with tempfile.TemporaryDirectory() as folder:
        loader = torch.utils.data.DataLoader(dataset, 64, collate_fn=Collate(gray))
        decoded = decode(dataset, gray, folder)
        epochs = {"plain": loader, "decoded once": Batches(decoded, 64)}
        batches = {}
        for name, epoch in epochs.items():
            start = time.perf_counter()
            batches[name] = [images for images, _ in epoch]
            print(f"{name}: an epoch of 512 pictures in {time.perf_counter() - start:.3f} s")
        same = all(map(torch.equal, *batches.values()))
        print(f"tensors equal: {same}")
        del decoded  # Windows cannot delete a mapped file


if __name__ == "__main__":
    demonstrate()
