"""Broken pictures, of every format that is opened."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from expression.app.examples import EXAMPLES
from expression.face_prediction import FacePrediction
from expression.pictures import LONGEST, open_picture
from expression.predictor import ExpressionPredictor
from tools.torture.cases import FileAttack, Wrong
from tools.torture.mutate import broken_bytes

__all__ = ["Attack", "check_faces", "whole_pictures"]

SIDE = 120  # pixels: large enough for the face to be found, small enough for 10,000


def whole_pictures() -> dict[str, bytes]:
    """{name.ending: content}: a face in every format, mode and packing that differs inside."""
    with Image.open(EXAMPLES / "portrait.jpg") as photo:
        rgb = photo.convert("RGB").resize((SIDE, SIDE))
    gray = rgb.convert("L")
    rgba = rgb.convert("RGBA")
    rgba.putalpha(gray)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    film = {"save_all": True, "append_images": [rgb.rotate(20), rgb.rotate(40)], "duration": 50}
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    plans: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("rgb.jpg", rgb, {}), ("gray.jpg", gray, {}), ("cmyk.jpg", rgb.convert("CMYK"), {}),
        ("scans.jpg", rgb, {"progressive": True}), ("turned.jpg", rgb, {"exif": exif}),
        ("rgb.png", rgb, {}), ("deep.png", deep, {}), ("rgba.png", rgba, {}),
        ("one.png", gray.convert("1"), {}), ("film.png", rgb, film),
        ("palette.png", rgb.quantize(64), {"transparency": 3}), ("turned.png", rgb, {"exif": exif}),
        ("rgb.webp", rgb, {}), ("exact.webp", rgba, {"lossless": True}), ("film.webp", rgb, film),
        ("palette.gif", rgb.quantize(64), {}), ("film.gif", rgb, film),
        ("rgb.bmp", rgb, {}), ("palette.bmp", rgb.quantize(64), {}),
        ("rgb.tif", rgb, {}), ("lzw.tif", rgb, {"compression": "tiff_lzw"}),
        ("jpeg.tif", rgb, {"compression": "jpeg"}), ("deep.tif", deep, {}),
        ("zip.tif", rgba, {"compression": "tiff_adobe_deflate"}),
        ("fax.tif", gray.convert("1"), {"compression": "group4"}),
        ("float.tif", gray.convert("F"), {}), ("pages.tif", rgb, film),
        ("rgb.ppm", rgb, {}), ("deep.pgm", deep, {}), ("rgb.jp2", rgb, {}), ("rgb.avif", rgb, {}),
    ]  # fmt: skip
    kinds = {"jpg": "JPEG", "tif": "TIFF", "ppm": "PPM", "pgm": "PPM", "jp2": "JPEG2000"}
    made = {}
    for name, image, options in plans:
        file, ending = io.BytesIO(), name.rsplit(".", 1)[1]
        image.save(file, kinds.get(ending, ending.upper()), **options)
        made[name] = file.getvalue()
    return made


def check_faces(faces: list[FacePrediction]) -> None:
    """Raises `Wrong` for an answer that cannot be: no number, no share, no box."""
    for face in faces:
        shares = list(face.probs.values())
        if not np.isfinite(shares).all() or abs(sum(shares) - 1) > 1e-3 or min(shares) < 0:
            raise Wrong(f"probabilities {face.probs}")
        if not all(isinstance(v, int) for v in face.box) or min(face.box[2:]) < 1:
            raise Wrong(f"box {face.box}")


class Attack(FileAttack):
    count = 10_000
    control_every = 500

    def __init__(self, scratch: Path) -> None:
        self.whole = whole_pictures()
        self.names = sorted(self.whole)
        self.predictor = ExpressionPredictor()
        self.first = {name: self.answer(self.whole[name]) for name in self.names}
        if not any(self.first.values()):
            raise RuntimeError("no face is found in any of the whole pictures")

    def answer(self, picture: bytes | Path) -> list[FacePrediction]:
        image = open_picture(picture, longest=LONGEST)
        if image.mode not in ("L", "RGB") or min(image.size) < 1:
            raise Wrong(f"a picture of mode {image.mode} and size {image.size}")
        faces = self.predictor.find(image)
        check_faces(faces)
        return faces

    def try_one(self, rng: random.Random, folder: Path) -> None:
        name = rng.choice(self.names)
        content = broken_bytes(self.whole[name], self.whole[rng.choice(self.names)], rng)
        if rng.random() < 0.3:
            self.answer(content)
            return
        path = folder / name
        path.write_bytes(content)
        self.answer(path)

    def control(self, folder: Path) -> None:
        for name in self.names[::5]:
            if self.answer(self.whole[name]) != self.first[name]:
                raise Wrong(name)
