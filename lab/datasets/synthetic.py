"""Draw faces that show an expression, so that everything runs with no data and no network.

Why: tests, notebook and demo must work where no photograph can be fetched. Brows, lids, mouth,
cheeks and nose move as an expression moves them; person, light, angle and what covers the face
do not depend on it. Figures measured on these faces show that a program works, and nothing more.
"""

import io
from collections.abc import Sequence
from types import SimpleNamespace

import datasets
import numpy as np
from PIL import Image, ImageFilter

from lab.datasets.face_parts import (
    CLOTH,
    Dice,
    Scene,
    add_cover,
    add_eyes,
    add_hair,
    add_head,
    add_middle,
    add_mouth,
    dark,
    mix,
)
from lab.datasets.fer2013 import CLASS_NAMES as EXPRESSIONS
from lab.datasets.splits import build_split

__all__ = ["EXPRESSIONS", "draw_face", "load"]

# How far each part moves from its rest position: 1 is strong, negative is downwards. The mouth
# opens by a random amount between the last two numbers: people show an expression with it open
# and closed.
_PARTS = (
    "brow_in brow_out knit eye lid droop corner width lip_up square round press cheek nose".split()
)  # then how far the mouth opens, from and to
_MOVES = {
    "angry": (-1.15, 0.5, 1, -0.05, 0.55, -0.8, -0.35, 0, 0, 1, 0, 0.8, 0, 0, -0.2, 0.42),
    "disgust": (-0.6, -0.4, 0.5, -0.45, 0.8, 0, -0.75, -0.08, 1, 0.3, 0, 0, 0, 1, -0.1, 0.3),
    "fear": (0.95, 0.1, 0.7, 0.55, 0.1, 0, -0.4, 0.12, 0, 0.8, 0, 0, 0, 0, 0.1, 0.42),
    "happy": (0.1, 0.15, 0, -0.2, 0.75, 0, 1, 0.22, 0, 0, 0, 0, 1, 0, -0.15, 0.55),
    "sad": (0.95, -0.75, 0.45, -0.3, 0, 1, -0.85, -0.06, 0, 0, 0, 0.2, 0, 0, -0.4, 0.12),
    "surprise": (1, 1, 0, 0.6, 0, 0, 0, -0.35, 0, 0, 1, 0, 0, 0, 0.3, 0.75),
    "neutral": (0,) * 16,
}
_SKIN = [(255, 224, 196), (238, 194, 158), (214, 160, 118), (158, 106, 70), (84, 54, 38)]
_HAIR = [(28, 22, 20), (52, 34, 24), (92, 58, 34), (148, 64, 32), (190, 146, 84)]
_IRIS = [(70, 42, 22), (96, 64, 30), (72, 104, 132), (82, 112, 74), (44, 30, 22)]
_STYLES = ("shaved", "cap", "scarf", "curly", "fringe") + ("short", "parted", "long") * 2
_BEARDS = (None, None, "stubble", "full", "moustache")


def _person(dice: Dice) -> SimpleNamespace:
    """Who is drawn: nothing here depends on the expression. Lengths in half heads."""
    tone, age, style, beard = dice(0, 3.99), dice(), dice.pick(_STYLES), dice.pick(_BEARDS)
    skin = mix(_SKIN[int(tone)], _SKIN[int(tone) + 1], tone % 1)
    hair, grey = dice.pick(_HAIR if tone < 2 else _HAIR[:2]), dice() < 0.7 and age > 0.75
    return SimpleNamespace(
        skin=skin,
        hair=(186, 182, 178) if grey else hair,
        style=style,
        age=age,
        beard=beard if style in ("shaved", "short", "cap") else "",
        cloth=dice.pick(CLOTH),
        side=dice.pick((-1, 1)),
        iris=dice.pick(_IRIS),
        width=dice(0.68, 0.84),
        jaw=dice(0.12, 0.42),
        spacing=dice(0.29, 0.37),
        eye=dice(0.8, 1.2),
        brow=dice(0.034, 0.064),
        brow_rest=dice(-0.3, 0.3),  # some brows slope at rest
        nose=dice(0.8, 1.25),
        mouth=dice(0.28, 0.37),
        mouth_rest=dice(-0.13, 0.13),
        lips=dice(0.03, 0.075),
        lip=mix(skin, (176, 40, 52), dice(0.25, 0.55)),
        glasses=dice.pick((None, None, None, None, None, "clear", "clear", "tinted")),
    )


def _moves(expression: str, dice: Dice) -> SimpleNamespace:
    """How far each part of this face moves: some strength, each part in its own way."""
    strength, full = dice(0.65, 1.2), _MOVES[expression]
    move = {
        part: amount * strength * dice(0.8, 1.2) + dice(-0.08, 0.08)
        for part, amount in zip(_PARTS, full[:-2], strict=True)
    }
    return SimpleNamespace(**move, gape=max(0, dice(*full[-2:])) * (0.4 + 0.6 * strength))


def _expose(picture: Image.Image, dice: Dice, rng: np.random.Generator) -> Image.Image:
    """The light and the camera: gradient, shadow, exposure, contrast, colour, blur, noise."""
    size, blur = picture.width, dice(-0.7, 0.9) * picture.width / 96
    if blur > 0.1:
        picture = picture.filter(ImageFilter.BoxBlur(blur))
    if dice() < 0.15:
        picture = picture.convert("L").convert("RGB")
    line, turn = np.linspace(-1, 1, size, dtype=np.float32), dice(0, 2 * np.pi)
    across = np.float32(np.cos(turn)) * line + np.float32(np.sin(turn)) * line[:, None]
    hard, depth, edge = dice(), dice(0.2, 0.5), dice(-0.2, 0.3)
    contrast, warm = dice(0.85, 1.2), dice(-0.06, 0.06)
    gain = (1 + dice(0, 0.25) * across) * (dice(0.8, 1.15) * contrast)
    if hard < 0.2:  # a light from one side leaves the other in shadow
        gain *= 1 - depth / (1 + np.exp(9 * (across + edge)))
    noise = dice(1, 5) * rng.standard_normal((size, size), dtype=np.float32)
    noise += 118 * (1 - contrast) + dice(-8, 8)
    planes = np.asarray(picture).transpose(2, 0, 1).astype(np.float32, order="C")  # (3, H, W)
    for plane, tint in zip(planes, (1 + warm, 1.0, 1 - warm), strict=True):
        plane *= gain * np.float32(tint)
        plane += noise
    planes = np.minimum(np.maximum(planes, 0), 255).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(plane) for plane in planes])


def draw_face(expression: str, rng: np.random.Generator, size: int = 96) -> Image.Image:
    """One RGB face of size x size pixels that shows `expression`; all else comes from `rng`.

    The same `rng` state gives the same person, pose and light whatever the expression or size.
    Raises ValueError for a name that is not in EXPRESSIONS or a size below 16.
    """
    if expression not in _MOVES or size < 16:
        raise ValueError(
            f"cannot draw {expression!r} at {size} pixels; the expressions are "
            f"{', '.join(EXPRESSIONS)} and the smallest size is 16"
        )
    own, back, pose, worn, shown, lens = (Dice(rng, n) for n in (40, 16, 8, 16, 48, 24))
    who, move, scene = _person(own), _moves(expression, shown), Scene()
    wall = mix(back.pick(CLOTH), back.pick([(232, 228, 220), (60, 64, 70)]), back(0.3, 0.9))
    for colour in (mix(wall, (255, 255, 255), 0.15), dark(wall, 0.2)):
        scene.oval(back(-1.3, 1.3), back(-1.3, 1.3), 0.7, 1.4, colour)
    add_head(scene, who, 0.16 * move.gape)
    add_middle(scene, who, move)
    add_mouth(scene, who, move, shown)
    add_eyes(scene, who, move, shown)
    add_hair(scene, who)
    add_cover(scene, who, worn)
    shrink = max(2, round(192 / size))
    return _expose(scene.render(size * shrink, wall, who.width, pose).reduce(shrink), lens, rng)


def _split(
    count: int, split: int, seed: int, size: int, names: list[str], noise: float
) -> datasets.Dataset:
    """Faces, held in memory. Face i has a seed of its own, so it does not depend on `count`."""

    def own(*key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(split, *key)))

    images, labels, order = [], [], []
    for i in range(count):
        turn, k = divmod(i, len(names))
        if k == 0:  # every run of len(names) faces holds each class once, in an order of its own
            order = own(1, turn).permutation(len(names)).tolist()
        rng = own(0, i)
        wrong, step = rng.random() < noise, int(rng.integers(1, max(2, len(names))))
        file = io.BytesIO()
        draw_face(names[order[k]], rng, size).save(file, "BMP")  # quick, and needs no zlib
        images.append({"bytes": file.getvalue(), "path": None})
        labels.append((order[k] + step * wrong) % len(names))
    return build_split(images, labels, names)


def load(
    train: int = 1000,
    validation: int = 250,
    test: int = 250,
    seed: int = 0,
    size: int = 96,
    class_names: Sequence[str] = EXPRESSIONS,
    label_noise: float = 0.05,
) -> datasets.DatasetDict:
    """Splits `train`, `validation`, `test` with `image` (size x size RGB) and `label`.

    Counts are faces. Face i of a split follows from `seed` alone, however many are drawn; no face
    is in two splits. `label_noise` is the share of faces, in every split as in real collections,
    whose label names another class than was drawn; before that, classes are even. Raises
    ValueError for counts below 1, unknown or repeated class names, and noise outside [0, 1].
    """
    names, counts = list(class_names), {"train": train, "validation": validation, "test": test}
    if not names or len(set(names)) != len(names) or not set(names) <= set(EXPRESSIONS):
        raise ValueError(f"class names {names}: want different ones of {', '.join(EXPRESSIONS)}")
    if not 0 <= label_noise <= 1 or min(counts.values()) < 1:
        raise ValueError(f"label_noise {label_noise} is no share in [0, 1], or of {counts} one < 1")
    return datasets.DatasetDict(
        {
            name: _split(count, k, seed, size, names, label_noise)
            for k, (name, count) in enumerate(counts.items())
        }
    )
