"""Pictures in which the place of the face is known: faces pasted into scenes without people.

The backgrounds are photographs that come with scikit-image, and mosaics of shuffled blocks of
face pictures, which have a face's textures but hold no face.
"""

import contextlib
import io
import random
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import skimage.data
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.subjects import Box

__all__ = ["KINDS", "TEXTURES", "Kind", "Scenes", "hit", "read_faces"]

TEXTURES = (
    "coffee chelsea rocket brick grass gravel coins page text moon hubble_deep_field "
    "immunohistochemistry retina clock"
).split()


@dataclass(frozen=True)
class Kind:
    """How a face is pasted: its size in pixels, turned by degrees either way, behind a mask."""

    size: int
    angle: float = 0
    masked: bool = False


KINDS = {
    "200 px": Kind(200),
    "80 px": Kind(80),
    "50 px": Kind(50),
    "30 px": Kind(30),
    "200 px, 20°": Kind(200, 20),
    "200 px, 40°": Kind(200, 40),
    "200 px, 90°": Kind(200, 90),
    "200 px, 180°": Kind(200, 180),
    "200 px, masked": Kind(200, masked=True),
}
MASKS = ((150, 190, 215), (245, 245, 245), (25, 25, 30), (200, 80, 90))  # blue, white, black, red
MASK = ((0.08, 0.58), (0.5, 0.5), (0.92, 0.58), (0.86, 0.94), (0.5, 1.0), (0.14, 0.94))


def read_faces(where: Path, count: int, seed: int) -> list[Image.Image]:
    """`count` random pictures (RGB) of a folder or a tar; ValueError where there are fewer.

    Nearly square ones only: in Muxspace these are faces, the others are whole film frames.
    """
    found: list[Image.Image] = []
    with contextlib.ExitStack() as stack:
        if where.is_dir():
            files = {p.relative_to(where).as_posix(): p.read_bytes for p in where.rglob("*")}
        elif where.exists() and not tarfile.is_tarfile(where):
            raise ValueError(f"{where} is neither a folder of pictures nor a tar of them")
        else:
            tar = stack.enter_context(tarfile.open(where))
            files = {m.name: lambda m=m: tar.extractfile(m).read() for m in tar if m.isfile()}
        names = sorted(n for n in files if n.lower().endswith((".jpg", ".jpeg", ".png")))
        random.Random(seed).shuffle(names)
        while names and len(found) < count:
            image = Image.open(io.BytesIO(files[names.pop()]()))
            if abs(image.width - image.height) <= 0.1 * image.width:
                found.append(image.convert("RGB"))
    if len(found) < count:
        raise ValueError(f"{where} holds {len(found)} square pictures; {count} are needed")
    return found


class Scenes:
    """Backgrounds of 640 × 480 without people, and faces pasted into them; seeded.

    Six in ten are crops of scikit-image's pictures, the others mosaics of blocks of `faces`.
    """

    size = (640, 480)

    def __init__(self, faces: Sequence[Image.Image], seed: int) -> None:
        self.random = random.Random(seed)
        self.faces = [face.resize((256, 256)) for face in faces]
        self.textures = [
            Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in TEXTURES
        ]

    def background(self) -> Image.Image:
        pick = self.random
        if pick.random() < 0.6:
            picture, share = pick.choice(self.textures), pick.uniform(0.4, 1)
            width, height = int(picture.width * share), int(picture.height * share)
            x, y = pick.randint(0, picture.width - width), pick.randint(0, picture.height - height)
            part = picture.crop((x, y, x + width, y + height))
            return part.resize(self.size, Image.Resampling.BICUBIC).rotate(pick.choice((0, 180)))
        out, block = Image.new("RGB", self.size), pick.choice((16, 20, 32))
        some = pick.sample(self.faces, min(6, len(self.faces)))
        for y in range(0, out.height, block):
            for x in range(0, out.width, block):
                u, v = pick.randrange(256 - block), pick.randrange(256 - block)
                out.paste(pick.choice(some).crop((u, v, u + block, v + block)), (x, y))
        return out.filter(ImageFilter.GaussianBlur(1))  # hides the edges of the blocks

    def scene_of(self, face: Image.Image, kind: Kind) -> tuple[Image.Image, Box]:
        """A background with a face of a kind, and where it lies."""
        return self.scene(self.masked(face) if kind.masked else face, kind.size, kind.angle)

    def masked(self, face: Image.Image) -> Image.Image:
        """A face behind a mask from the bridge of the nose down, of one of four colours."""
        out = face.copy()
        corners = [(x * out.width, y * out.height) for x, y in MASK]
        ImageDraw.Draw(out).polygon(corners, fill=self.random.choice(MASKS))
        return out

    def scene(self, face: Image.Image, size: int, angle: float = 0) -> tuple[Image.Image, Box]:
        """A background with a face of `size` pixels, turned either way, and where it lies."""
        out = self.background()
        small = face.convert("RGBA").resize((size, size), Image.Resampling.BICUBIC)
        if angle:
            angle *= self.random.choice((-1, 1))
            small = small.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        x = self.random.randrange(out.width - small.width)
        y = self.random.randrange(out.height - small.height)
        out.paste(small, (x, y), small)
        return out, (x + (small.width - size) // 2, y + (small.height - size) // 2, size, size)


def hit(box: Box, place: Box) -> bool:
    """Whether a box lies on the face pasted at `place`: centre within 0.3 of the face's size."""
    (x, y, width, height), (u, v, size, _) = box, place
    off = max(abs(x + width / 2 - u - size / 2), abs(y + height / 2 - v - size / 2))
    return off < 0.3 * size and 0.3 * size < height < 1.5 * size
