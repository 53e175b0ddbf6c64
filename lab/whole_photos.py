"""Whole photos as data: noticed before a network learns or is measured, and the faces cut out.

Why: in use a network is shown a face that was cut out of a photo. One that learnt whole photos has
never seen such a picture, and its accuracy does not say so, since it is measured on whole photos.
"""

import math
import shlex
import shutil
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image
from tqdm import tqdm

from expression.checkpoint import read_card, resolve_checkpoint
from expression.face_detector import FaceFinder
from expression.faces import CropRule
from expression.files import shown
from expression.output_files import check_folder, safe_stem
from expression.pictures import as_picture
from lab.data import Faces

__all__ = ["Cut", "check_pictures", "crop_of", "cut_faces"]

LOOKED_AT = 60  # pictures, where no face fills a third of the first ones
SMALL = 0.4  # of a picture's side: a smaller face stands in a photo
LOOSER = 0.7  # times what a network learnt: a face that is smaller than that is told
SIDE = 256  # pixels of a cut picture at most
NAMED = 5  # pictures without a face that are named


def crop_of(checkpoint: str | None) -> CropRule | None:
    """The crop of a network, by its file or name (None: the one that is served), as measured on
    its training pictures; None where it was not."""
    rule = read_card(resolve_checkpoint(checkpoint)).get("crop")
    return CropRule(**rule) if isinstance(rule, dict) and rule["measured"] else None


def check_pictures(faces: Faces, data: str | None, like: CropRule | None = None) -> None:
    """Raises ValueError where a data set's pictures are whole photos, not faces; `data` is what
    --data names. Prints a line where the faces are much smaller than in the crop of `like`.

    Pictures in which no face is found, such as drawn ones, are taken as they are.
    """
    share, name = face_share(faces), data or faces.name
    command = shown(shlex.join(
        ["python", "experiments.py", "crop", "--data", name, "--to", f"{faces.name}_faces"]
    ))  # fmt: skip
    if share is not None and share < SMALL:
        raise ValueError(
            f"{shown(name)} holds whole photos: the face takes {100 * share:.0f} % of the side, "
            f"and in use a network is shown the face alone. Cut the faces out first: {command}"
        )
    if share is not None and like and share < LOOSER * like.size:
        print(f"Faces take {100 * share:.0f} % of the side of these pictures, {100 * like.size:.0f}"
              f" % of those that the network learnt; this cuts them alike: {command}")  # fmt: skip


def face_share(faces: Faces) -> float | None:
    """The side of the face as a share of the picture's, in training: as `Faces.crop` measured it,
    else the median of a closer look at some pictures; None where most show no face."""
    if faces.crop["measured"]:
        return float(faces.crop["size"])
    finder, shares, looked_at = FaceFinder(), [], 0
    for image in islice(faces.pictures(), LOOKED_AT):
        looked_at += 1
        if found := finder.find_batch([image])[0]:
            _, _, width, height = found[0].box
            shares.append(math.sqrt(width * height / (image.width * image.height)))
    return median(shares) if len(shares) > looked_at / 2 else None


@dataclass
class Cut:
    """What became of the pictures of a data set."""

    written: Counter[str] = field(default_factory=Counter)  # by split
    several: int = 0  # pictures with more than one face, of which the largest was taken
    without: list[str] = field(default_factory=list)  # names of pictures without a face

    def words(self, folder: Path) -> str:
        counts = ", ".join(f"{n:,} for {split}" for split, n in self.written.items())
        lines = [f"wrote {shown(folder)}: {counts}"]
        if self.several:
            lines.append(f"several faces in {self.several:,} pictures: the largest was cut out")
        if self.without:
            named = ", ".join(map(shown, self.without[:NAMED]))
            more = ", …" if len(self.without) > NAMED else ""
            lines.append(f"no face found in {len(self.without):,} pictures: {named}{more}")
        return "\n".join([*lines, "look at them, and delete what is no face or not the one meant"])


def cut_faces(faces: Faces, like: str | None, folder: Path) -> Cut:
    """Write the largest face of every picture to folder/SPLIT/CLASS/NAME.png, cropped as the
    network `like` is shown it (see `crop_of`).

    The folder is whole or not there. Raises ValueError where it exists, where a split would be
    empty, for data that are packed or streamed, and for a network without a measured crop.
    """
    if (rule := crop_of(like)) is None:
        raise ValueError(f"{like} does not say how its faces were cropped; name another --like")
    if check_folder(folder).exists():
        raise ValueError(f"{shown(folder)} exists; choose another folder (--to)")
    if faces.streamed or not hasattr(faces.splits["train"], "features"):
        raise ValueError(f"{faces.name} is packed or streamed; name the folder of the photos")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    finder, told = FaceFinder(), Cut()
    try:
        for split, rows in faces.splits.items():
            for number, row in enumerate(tqdm(rows, desc=split, unit="picture", disable=None)):
                name = name_of(row["image"], number)
                label = safe_stem(faces.class_names[row["label"]])
                if face := largest_face(as_picture(row["image"]), rule, finder, told):
                    place = unfinished / split / label
                    place.mkdir(parents=True, exist_ok=True)
                    face.save(place / f"{name}.png")
                    told.written[split] += 1
                else:
                    told.without.append(f"{label}/{name}")
        if empty := [split for split in faces.splits if not told.written[split]]:
            raise ValueError(f"no face was found in any {empty[0]} picture of {faces.name}")
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return told


def largest_face(
    image: Image.Image, rule: CropRule, finder: FaceFinder, told: Cut
) -> Image.Image | None:
    """The largest face as a network is shown it, at most `SIDE` pixels large; None without one."""
    found = finder.find(image)
    if not found:
        return None
    told.several += len(found) > 1
    face = rule(image, found[0].box, found[0].tilt)
    face.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return face


def name_of(picture: Any, number: int) -> str:
    """A file name that no other picture of the split has, with the original's name where known."""
    path = getattr(picture, "filename", "") or ""
    return f"{number:05d}-{safe_stem(Path(path).stem)}" if path else f"{number:05d}"
