"""Draw faces that show an expression, so that everything runs with no data and no network.

Why: tests, notebook and demo must work where no photograph can be fetched. Brows, lids, mouth,
cheeks and nose move as an expression moves them; person, light, angle and what covers the face
do not depend on it. Figures measured on these faces show that a program works, and nothing more.
"""

import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lab.datasets.fer2013 import CLASS_NAMES as EXPRESSIONS
from lab.datasets.splits import build_split

__all__ = ["EXPRESSIONS", "draw_face", "load"]

Colour = tuple[int, int, int]

# What moves, against a face at rest: 1 is strong, negative is downwards. The mouth opens by
# something between shut and agape: an expression is met with the mouth closed and open.
_PARTS = (
    "brow_in",
    "brow_out",
    "knit",
    "eye",
    "lid",
    "droop",
    "corner",
    "width",
    "lip_up",
    "square",
    "round",
    "press",
    "cheek",
    "nose",
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
_CLOTH = [(52, 80, 122), (140, 50, 54), (56, 100, 78), (206, 198, 184), (38, 40, 48)]
_STYLES = ("shaved", "cap", "scarf", "curly", "fringe") + ("short", "parted", "long") * 2
_BEARDS = (None, None, "stubble", "full", "moustache")
_RING = np.exp(2j * np.pi * np.arange(24) / 24)  # unit circle, complex: x + iy, y downwards
_T = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 15))  # -1..1, dense at both ends
_ABS = np.abs(_T)


class _Dice:
    """Cheap random numbers: drawn from the generator at once, handed out one at a time."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.left = iter(rng.random(count).tolist())

    def __call__(self, low: float = 0, high: float = 1) -> float:
        return low + (high - low) * next(self.left)

    def pick(self, options: Sequence) -> Any:
        return options[int(next(self.left) * len(options))]


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (int(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


def _dark(c: Colour, share: float) -> Colour:
    return _mix(c, (40, 12, 10), share)


class _Scene:
    """Shapes in face units (head 2 high, centre 0, y down), posed and painted all at once."""

    def __init__(self) -> None:
        self.shapes: list[tuple[np.ndarray, Colour, float]] = []

    def add(self, points: np.ndarray | list[complex], colour: Colour, thick: float = 0) -> None:
        """A line, or a filled shape where it has no thickness."""
        self.shapes.append((np.asarray(points), colour, thick))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.add(complex(x, y) + rx * _RING.real + 1j * ry * _RING.imag, colour)

    def band(self, x: np.ndarray, top: np.ndarray, bottom: np.ndarray, colour: Colour) -> None:
        self.add(np.concatenate([x + 1j * top, (x + 1j * bottom)[::-1]]), colour)

    def render(self, side: int, wall: Colour, width: float, dice: _Dice) -> Image.Image:
        """RGB picture of side x side pixels. Turning moves what is near the viewer furthest."""
        turned = complex(dice(-0.16, 0.16), dice(-0.1, 0.1))
        roll = np.exp(1j * np.radians(dice(-9, 9))) * side * dice(0.44, 0.5)
        middle = side * complex(dice(0.47, 0.53), dice(0.47, 0.52))
        z = np.concatenate([points for points, _, _ in self.shapes])
        depth = np.sqrt(np.maximum(0, 1 - (z.real / width) ** 2 - (z.imag / 1.05) ** 2))
        z = (z + depth * turned) * roll + middle
        flat = z.view(np.float64).tolist()  # x0, y0, x1, y1, ...
        picture = Image.new("RGB", (side, side), wall)
        pen, at = ImageDraw.Draw(picture), 0
        for points, colour, thick in self.shapes:
            outline, at = flat[at : at + 2 * len(points)], at + 2 * len(points)
            if not thick:
                pen.polygon(outline, colour)
            else:
                pen.line(outline, colour, max(1, round(thick * abs(roll))))
        return picture


def _person(dice: _Dice) -> SimpleNamespace:
    """Who is drawn: nothing here depends on the expression. Lengths in half heads."""
    tone, age, style, beard = dice(0, 3.99), dice(), dice.pick(_STYLES), dice.pick(_BEARDS)
    skin = _mix(_SKIN[int(tone)], _SKIN[int(tone) + 1], tone % 1)
    hair, grey = dice.pick(_HAIR if tone < 2 else _HAIR[:2]), dice() < 0.7 and age > 0.75
    return SimpleNamespace(
        skin=skin,
        hair=(186, 182, 178) if grey else hair,
        style=style,
        age=age,
        beard=beard if style in ("shaved", "short", "cap") else "",
        cloth=dice.pick(_CLOTH),
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
        lip=_mix(skin, (176, 40, 52), dice(0.25, 0.55)),
        glasses=dice.pick((None, None, None, None, None, "clear", "clear", "tinted")),
    )


def _moves(expression: str, dice: _Dice) -> SimpleNamespace:
    """How far each part of this face moves: some strength, each part in its own way."""
    strength, full = dice(0.65, 1.2), _MOVES[expression]
    move = {
        part: amount * strength * dice(0.8, 1.2) + dice(-0.08, 0.08)
        for part, amount in zip(_PARTS, full[:-2], strict=True)
    }
    return SimpleNamespace(**move, gape=max(0, dice(*full[-2:])) * (0.4 + 0.6 * strength))


def _head(scene: _Scene, who: SimpleNamespace, drop: float) -> None:
    """Hair behind, neck, ears, and the head, whose chin an open mouth lowers by `drop`."""
    w, hair = who.width, _dark(who.hair, 0.25)
    if who.style == "long":
        scene.oval(0, 0.2, w * 1.32, 1.4, hair)
    elif who.style == "curly":
        for curl in _RING[_RING.imag < 0.45]:
            scene.oval(w * 1.05 * curl.real, -0.12 + 0.95 * curl.imag, 0.27, 0.27, hair)
    scene.add([-0.42 + 0.4j, 0.42 + 0.4j, 0.46 + 1.6j, -0.46 + 1.6j], _dark(who.skin, 0.3))
    scene.oval(0, 1.95, 1.5, 0.78, who.cloth)
    for s in (-1, 1):
        scene.oval(s * w, 0.06, 0.11, 0.2, _dark(who.skin, 0.12))
        scene.oval(s * w * 1.02, 0.06, 0.05, 0.11, _dark(who.skin, 0.32))
    if who.style == "scarf":
        scene.oval(0, 0.14, w * 1.24, 1.34, _dark(who.cloth, 0.15))
    x, y = _RING.real * w * (1 - who.jaw * np.maximum(_RING.imag, 0) ** 2.2), _RING.imag
    head = x + 1j * y * np.where(y > 0, 1 + drop, 1.02)
    scene.add(head, who.skin)
    if thick := {"stubble": 0.2, "full": 0.85}.get(who.beard):  # round the chin, back along the lip
        beard = np.append(head[head.imag > 0.2], 0.78 * w * _T + 1j * (0.36 + 0.06 * _T**2))
        scene.add(beard, _mix(who.skin, who.hair, thick))


def _hair(scene: _Scene, who: SimpleNamespace) -> None:
    """What lies over the forehead: between the crown and a hairline of some shape."""
    colour = who.cloth if who.style in ("cap", "scarf") else who.hair
    crown = -0.1 - 1.04 * np.sqrt(1 - _ABS**2.3)
    line = {
        "parted": -0.68 + 0.16 * who.side * _T,
        "fringe": -0.4 + 0.03 * np.cos(15 * _T),
        "cap": -0.5 - 0 * _T,
        "curly": -0.6 + 0.05 * np.cos(9 * _T),
        "scarf": -0.62 - 0.02 * _T,
    }.get(who.style, -0.68 - 0.06 * np.cos(3 * _T))
    line += ({"cap": -0.46, "scarf": 0.1}.get(who.style, -0.08) - line) * _ABS**5
    if who.style != "shaved":
        scene.band(who.width * 1.07 * _T, crown, line, colour)
        shine = who.width * 0.85 * _T + 1j * (crown * 0.55 + line * 0.45)
        scene.add(shine[3:12], _mix(colour, (255, 240, 220), 0.18), 0.035)
    if who.style == "cap":
        scene.band(who.width * 1.1 * _T, line - 0.14, line, _dark(colour, 0.35))


def _eyes(scene: _Scene, who: SimpleNamespace, move: SimpleNamespace, dice: _Dice) -> None:
    """Lids, irises that the lids cover, and the brows above them."""
    gaze = complex(dice(-0.035, 0.035), dice(-0.015, 0.02))
    half, top, arch, t = 0.18 * who.eye**0.5, -0.07, 1 - _ABS**2.2, (_T + 1) / 2
    slant = 0.045 * move.droop * _T
    for s in (-1, 1):  # on each side _T = -1 is at the nose, 1 at the temple
        tall = 0.17 * who.eye * max(0.1, 1 + move.eye + dice(-0.06, 0.06))
        x = s * (who.spacing + half * _T)
        up = top - 0.66 * tall * arch + slant * (0.4 + arch)
        low = top + 0.44 * tall * arch * max(0.1, 1 - 0.85 * move.lid) + 0.3 * slant
        low = np.maximum(low, up + 0.006)
        scene.band(x, up - 0.055, low + 0.03, _dark(who.skin, 0.14))
        scene.band(x, up, low, (246, 242, 238))
        for radius, colour in ((0.088, who.iris), (0.043, (14, 10, 10))):
            ring = complex(s * who.spacing, top) + gaze + radius * _RING
            at = (ring.real * s - who.spacing) / half
            y = np.maximum(ring.imag, np.interp(at, _T, up))
            scene.add(ring.real + 1j * np.minimum(y, np.interp(at, _T, low)), colour)
        if tall > 0.09:
            scene.oval(s * who.spacing + gaze.real + 0.03, top - 0.03, 0.018, 0.018, (255,) * 3)
        scene.add(x + 1j * up, _dark(who.skin, 0.75), 0.032)
        scene.add(x + 1j * low, _dark(who.skin, 0.4), 0.016)
        y = (
            -0.345
            - 0.13 * (move.brow_in + 0.25 * who.brow_rest) * (1 - t)
            - 0.12 * (move.brow_out - 0.4 * who.brow_rest) * t
            - 0.05 * (1 - _T**2)
        )
        thick = who.brow * (1.05 - 0.7 * t**2)
        scene.band(
            s * (who.spacing - 0.17 - 0.055 * move.knit + 0.39 * t),
            y - thick,
            y + thick * 0.7,
            _dark(who.hair, 0.25),
        )


def _middle(scene: _Scene, who: SimpleNamespace, move: SimpleNamespace) -> None:
    """Nose, cheeks and the lines that an expression, or age, draws on the skin."""
    shade, cheek, n = _dark(who.skin, 0.2), max(0, move.cheek), who.nose
    lift, fold = -0.05 * max(0, move.nose), max(cheek, move.nose, who.age - 0.5)
    for s in (-1, 1):
        scene.oval(s * 0.46, 0.3 - 0.07 * cheek, 0.17, 0.12, _mix(who.skin, (214, 84, 80), 0.16))
        if cheek > 0.35:  # pushed up: a fold under the eye, crow's feet beside it
            scene.add(s * (0.42 + 0.17 * _T) + 1j * (0.17 + 0.05 * _T**2), shade, 0.022)
            scene.add([s * 0.68 - 0.13j, s * 0.57 - 0.05j, s * 0.69 - 0.01j], shade, 0.018)
        if fold > 0.2:  # from the nose to the corner of the mouth
            scene.add(
                [
                    s * 0.16 * n + (0.22 + lift) * 1j,
                    s * 0.3 + 0.36j,
                    s * (0.36 + 0.05 * cheek) + 0.55j,
                ],
                _dark(who.skin, 0.12 + 0.2 * min(1, fold)),
                0.024,
            )
        if move.knit > 0.45:
            scene.add([s * 0.06 - 0.4j, s * 0.045 - 0.27j], shade, 0.022)
        for y in (-0.1, -0.03, 0.04) if move.nose > 0.35 else ():
            scene.add([s * 0.02 + 1j * y, s * 0.11 + 1j * (y - 0.05)], _dark(who.skin, 0.42), 0.02)
        scene.oval(s * 0.085 * n, 0.25 + lift, 0.055 * n, 0.045, shade)
        scene.oval(s * 0.07 * n, 0.275 + lift, 0.03 * n, 0.017, _dark(who.skin, 0.65))
    scene.add([0.05 * n - 0.05j, 0.07 * n + 0.15j], shade, 0.03)
    scene.oval(0, 0.23 + lift, 0.075 * n, 0.06, _mix(who.skin, (255, 255, 255), 0.12))
    for k in range(2 * (max(move.brow_in, move.brow_out) > 0.55) + (who.age > 0.65)):
        scene.add((0.34 * _T + 1j * (-0.55 - 0.07 * k + 0.03 * _ABS))[2:-2], shade, 0.018)


def _mouth(scene: _Scene, who: SimpleNamespace, move: SimpleNamespace, dice: _Dice) -> None:
    """Lips as a band around the opening; the opening shows teeth and tongue."""
    x = who.mouth * (1 + move.width) * _T + dice(-0.02, 0.02)
    swell = (1 - _ABS ** (2 + 2.5 * max(0, move.square))) ** (1 - 0.5 * np.clip(move.round, 0, 1))
    base = (
        0.55
        - 0.2 * (move.corner + who.mouth_rest) * (_T**2 - 0.45)
        + dice(-0.035, 0.035) * _T * (1 + 2 * abs(move.lip_up))
    )
    up = base - 0.3 * move.gape * swell - 0.085 * max(0, move.lip_up) * (1 - _ABS**1.5)
    low = np.maximum(base + 0.62 * move.gape * swell, up)
    lip = who.lips * max(0.35, 1 - 0.6 * max(0, move.press)) * (1 - _ABS**2.6)
    scene.band(x * 1.04, up - lip * (1 - 0.22 * np.exp(-40 * _T**2)), low + 1.25 * lip, who.lip)
    if who.beard in ("full", "moustache"):
        scene.band(
            x * 0.95,
            up - who.lips - 0.1 * (1 - 0.6 * _ABS),
            up - who.lips * 0.6,
            _mix(who.skin, who.hair, 0.85),
        )
    if np.max(low - up) < 0.035:
        return scene.add(x + 1j * base, _dark(who.lip, 0.65), 0.026)
    scene.band(x, up, low, (64, 18, 22))
    scene.band(x[4:11], (0.4 * up + 0.6 * low)[4:11], low[4:11], (178, 74, 78))
    teeth = 0.085 if move.round < 0.4 else 0.045
    scene.band(x[3:12], up[3:12], np.minimum(up + teeth, low)[3:12], (240, 236, 226))
    if move.square > 0.55:
        scene.band(x[2:13], np.maximum(low - 0.07, up)[2:13], low[2:13], (232, 226, 214))


def _over(scene: _Scene, who: SimpleNamespace, dice: _Dice) -> None:
    """What is worn on or held before the face, and may hide what one would like to see."""
    frame, r, s = dice.pick([(30, 26, 26), (90, 50, 30), (150, 150, 156)]), 0.26, who.side
    for k in (-1, 1) if who.glasses else ():
        lens = r * (_RING.real + 0.9j * _RING.imag) + k * who.spacing - 0.04j
        if who.glasses == "tinted":
            scene.add(lens, (48, 46, 52))
        scene.add(np.append(lens, lens[:2]), frame, 0.034)
        scene.add([k * (who.spacing + r) - 0.08j, k * who.width - 0.1j], frame, 0.03)
        scene.add([-0.06j, k * (who.spacing - r) - 0.06j], frame, 0.034)
    hides, x, y, lean = dice(), dice(0.26, 0.75), dice(0.3, 0.9), dice(-0.7, 0.7)
    if hides < 0.15:  # a hand at the cheek, sometimes over half of the mouth
        scene.oval(s * (x + 0.35), y + 0.6, 0.34, 0.5, who.skin)
        for k in range(4):
            scene.oval(s * (x + 0.155 * k), y + 0.05 * abs(k - 1), 0.082, 0.4, who.skin)
            knuckle = s * (x + 0.155 * k + 0.08) + (y - 0.3) * 1j
            scene.add([knuckle, knuckle + 0.65j], _dark(who.skin, 0.25), 0.018)
    elif hides < 0.22:  # a post, a cable, a neighbour's shoulder
        edge = np.array([-lean - 2j, lean + 2j])
        scene.add(np.append(s * x + edge, s * (x + y / 3) + edge[::-1]), dice.pick(_CLOTH))


def _expose(picture: Image.Image, dice: _Dice, rng: np.random.Generator) -> Image.Image:
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
    own, back, pose, worn, shown, lens = (_Dice(rng, n) for n in (40, 16, 8, 16, 48, 24))
    who, move, scene = _person(own), _moves(expression, shown), _Scene()
    wall = _mix(back.pick(_CLOTH), back.pick([(232, 228, 220), (60, 64, 70)]), back(0.3, 0.9))
    for colour in (_mix(wall, (255, 255, 255), 0.15), _dark(wall, 0.2)):
        scene.oval(back(-1.3, 1.3), back(-1.3, 1.3), 0.7, 1.4, colour)
    _head(scene, who, 0.16 * move.gape)
    _middle(scene, who, move)
    _mouth(scene, who, move, shown)
    _eyes(scene, who, move, shown)
    _hair(scene, who)
    _over(scene, who, worn)
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
