"""The parts of a drawn face: head, hair, eyes, nose, mouth and what covers them.

Each function adds shapes to a `Scene`; `who` is the person, `move` how far each part of the face is
moved by an expression (both from `lab.datasets.synthetic`), `dice` the random numbers.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

__all__ = [
    "CLOTH",
    "Colour",
    "Dice",
    "Scene",
    "add_cover",
    "add_eyes",
    "add_hair",
    "add_head",
    "add_middle",
    "add_mouth",
    "dark",
    "mix",
]

Colour = tuple[int, int, int]
CLOTH = [(52, 80, 122), (140, 50, 54), (56, 100, 78), (206, 198, 184), (38, 40, 48)]
RING = np.exp(2j * np.pi * np.arange(24) / 24)  # unit circle, complex: x + iy, y downwards
T = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 15))  # -1..1, dense at both ends
ABS = np.abs(T)


class Dice:
    """Cheap random numbers: drawn from the generator at once, handed out one at a time."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.left = iter(rng.random(count).tolist())

    def __call__(self, low: float = 0, high: float = 1) -> float:
        return low + (high - low) * next(self.left)

    def pick(self, options: Sequence) -> Any:
        return options[int(next(self.left) * len(options))]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (int(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


def dark(c: Colour, share: float) -> Colour:
    return mix(c, (40, 12, 10), share)


class Scene:
    """Shapes in face units (head 2 high, centre 0, y down), posed and painted all at once."""

    def __init__(self) -> None:
        self.shapes: list[tuple[np.ndarray, Colour, float]] = []

    def add(self, points: np.ndarray | list[complex], colour: Colour, thick: float = 0) -> None:
        """A line, or a filled shape where it has no thickness."""
        self.shapes.append((np.asarray(points), colour, thick))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.add(complex(x, y) + rx * RING.real + 1j * ry * RING.imag, colour)

    def band(self, x: np.ndarray, top: np.ndarray, bottom: np.ndarray, colour: Colour) -> None:
        self.add(np.concatenate([x + 1j * top, (x + 1j * bottom)[::-1]]), colour)

    def render(self, side: int, wall: Colour, width: float, dice: Dice) -> Image.Image:
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


def add_head(scene: Scene, who: SimpleNamespace, drop: float) -> None:
    """Hair behind, neck, ears, and the head, whose chin an open mouth lowers by `drop`."""
    w, hair = who.width, dark(who.hair, 0.25)
    if who.style == "long":
        scene.oval(0, 0.2, w * 1.32, 1.4, hair)
    elif who.style == "curly":
        for curl in RING[RING.imag < 0.45]:
            scene.oval(w * 1.05 * curl.real, -0.12 + 0.95 * curl.imag, 0.27, 0.27, hair)
    scene.add([-0.42 + 0.4j, 0.42 + 0.4j, 0.46 + 1.6j, -0.46 + 1.6j], dark(who.skin, 0.3))
    scene.oval(0, 1.95, 1.5, 0.78, who.cloth)
    for s in (-1, 1):
        scene.oval(s * w, 0.06, 0.11, 0.2, dark(who.skin, 0.12))
        scene.oval(s * w * 1.02, 0.06, 0.05, 0.11, dark(who.skin, 0.32))
    if who.style == "scarf":
        scene.oval(0, 0.14, w * 1.24, 1.34, dark(who.cloth, 0.15))
    x, y = RING.real * w * (1 - who.jaw * np.maximum(RING.imag, 0) ** 2.2), RING.imag
    head = x + 1j * y * np.where(y > 0, 1 + drop, 1.02)
    scene.add(head, who.skin)
    if thick := {"stubble": 0.2, "full": 0.85}.get(who.beard):  # round the chin, back along the lip
        beard = np.append(head[head.imag > 0.2], 0.78 * w * T + 1j * (0.36 + 0.06 * T**2))
        scene.add(beard, mix(who.skin, who.hair, thick))


def add_hair(scene: Scene, who: SimpleNamespace) -> None:
    """What lies over the forehead: between the crown and a hairline of some shape."""
    colour = who.cloth if who.style in ("cap", "scarf") else who.hair
    crown = -0.1 - 1.04 * np.sqrt(1 - ABS**2.3)
    line = {
        "parted": -0.68 + 0.16 * who.side * T,
        "fringe": -0.4 + 0.03 * np.cos(15 * T),
        "cap": -0.5 - 0 * T,
        "curly": -0.6 + 0.05 * np.cos(9 * T),
        "scarf": -0.62 - 0.02 * T,
    }.get(who.style, -0.68 - 0.06 * np.cos(3 * T))
    line += ({"cap": -0.46, "scarf": 0.1}.get(who.style, -0.08) - line) * ABS**5
    if who.style != "shaved":
        scene.band(who.width * 1.07 * T, crown, line, colour)
        shine = who.width * 0.85 * T + 1j * (crown * 0.55 + line * 0.45)
        scene.add(shine[3:12], mix(colour, (255, 240, 220), 0.18), 0.035)
    if who.style == "cap":
        scene.band(who.width * 1.1 * T, line - 0.14, line, dark(colour, 0.35))


def add_eyes(scene: Scene, who: SimpleNamespace, move: SimpleNamespace, dice: Dice) -> None:
    """Lids, irises that the lids cover, and the brows above them."""
    gaze = complex(dice(-0.035, 0.035), dice(-0.015, 0.02))
    half, top, arch, t = 0.18 * who.eye**0.5, -0.07, 1 - ABS**2.2, (T + 1) / 2
    slant = 0.045 * move.droop * T
    for s in (-1, 1):  # on each side T = -1 is at the nose, 1 at the temple
        tall = 0.17 * who.eye * max(0.1, 1 + move.eye + dice(-0.06, 0.06))
        x = s * (who.spacing + half * T)
        up = top - 0.66 * tall * arch + slant * (0.4 + arch)
        low = top + 0.44 * tall * arch * max(0.1, 1 - 0.85 * move.lid) + 0.3 * slant
        low = np.maximum(low, up + 0.006)
        scene.band(x, up - 0.055, low + 0.03, dark(who.skin, 0.14))
        scene.band(x, up, low, (246, 242, 238))
        for radius, colour in ((0.088, who.iris), (0.043, (14, 10, 10))):
            ring = complex(s * who.spacing, top) + gaze + radius * RING
            at = (ring.real * s - who.spacing) / half
            y = np.maximum(ring.imag, np.interp(at, T, up))
            scene.add(ring.real + 1j * np.minimum(y, np.interp(at, T, low)), colour)
        if tall > 0.09:
            scene.oval(s * who.spacing + gaze.real + 0.03, top - 0.03, 0.018, 0.018, (255,) * 3)
        scene.add(x + 1j * up, dark(who.skin, 0.75), 0.032)
        scene.add(x + 1j * low, dark(who.skin, 0.4), 0.016)
        y = (
            -0.345
            - 0.13 * (move.brow_in + 0.25 * who.brow_rest) * (1 - t)
            - 0.12 * (move.brow_out - 0.4 * who.brow_rest) * t
            - 0.05 * (1 - T**2)
        )
        thick = who.brow * (1.05 - 0.7 * t**2)
        scene.band(
            s * (who.spacing - 0.17 - 0.055 * move.knit + 0.39 * t),
            y - thick,
            y + thick * 0.7,
            dark(who.hair, 0.25),
        )


def add_middle(scene: Scene, who: SimpleNamespace, move: SimpleNamespace) -> None:
    """Nose, cheeks and the lines that an expression, or age, draws on the skin."""
    shade, cheek, n = dark(who.skin, 0.2), max(0, move.cheek), who.nose
    lift, fold = -0.05 * max(0, move.nose), max(cheek, move.nose, who.age - 0.5)
    for s in (-1, 1):
        scene.oval(s * 0.46, 0.3 - 0.07 * cheek, 0.17, 0.12, mix(who.skin, (214, 84, 80), 0.16))
        if cheek > 0.35:  # pushed up: a fold under the eye, crow's feet beside it
            scene.add(s * (0.42 + 0.17 * T) + 1j * (0.17 + 0.05 * T**2), shade, 0.022)
            scene.add([s * 0.68 - 0.13j, s * 0.57 - 0.05j, s * 0.69 - 0.01j], shade, 0.018)
        if fold > 0.2:  # from the nose to the corner of the mouth
            scene.add(
                [
                    s * 0.16 * n + (0.22 + lift) * 1j,
                    s * 0.3 + 0.36j,
                    s * (0.36 + 0.05 * cheek) + 0.55j,
                ],
                dark(who.skin, 0.12 + 0.2 * min(1, fold)),
                0.024,
            )
        if move.knit > 0.45:
            scene.add([s * 0.06 - 0.4j, s * 0.045 - 0.27j], shade, 0.022)
        for y in (-0.1, -0.03, 0.04) if move.nose > 0.35 else ():
            scene.add([s * 0.02 + 1j * y, s * 0.11 + 1j * (y - 0.05)], dark(who.skin, 0.42), 0.02)
        scene.oval(s * 0.085 * n, 0.25 + lift, 0.055 * n, 0.045, shade)
        scene.oval(s * 0.07 * n, 0.275 + lift, 0.03 * n, 0.017, dark(who.skin, 0.65))
    scene.add([0.05 * n - 0.05j, 0.07 * n + 0.15j], shade, 0.03)
    scene.oval(0, 0.23 + lift, 0.075 * n, 0.06, mix(who.skin, (255, 255, 255), 0.12))
    lines = 2 if max(move.brow_in, move.brow_out) > 0.55 else 0
    for k in range(lines + (1 if who.age > 0.65 else 0)):
        scene.add((0.34 * T + 1j * (-0.55 - 0.07 * k + 0.03 * ABS))[2:-2], shade, 0.018)


def add_mouth(scene: Scene, who: SimpleNamespace, move: SimpleNamespace, dice: Dice) -> None:
    """Lips as a band around the opening; the opening shows teeth and tongue."""
    x = who.mouth * (1 + move.width) * T + dice(-0.02, 0.02)
    swell = (1 - ABS ** (2 + 2.5 * max(0, move.square))) ** (1 - 0.5 * np.clip(move.round, 0, 1))
    base = (
        0.55
        - 0.2 * (move.corner + who.mouth_rest) * (T**2 - 0.45)
        + dice(-0.035, 0.035) * T * (1 + 2 * abs(move.lip_up))
    )
    up = base - 0.3 * move.gape * swell - 0.085 * max(0, move.lip_up) * (1 - ABS**1.5)
    low = np.maximum(base + 0.62 * move.gape * swell, up)
    lip = who.lips * max(0.35, 1 - 0.6 * max(0, move.press)) * (1 - ABS**2.6)
    scene.band(x * 1.04, up - lip * (1 - 0.22 * np.exp(-40 * T**2)), low + 1.25 * lip, who.lip)
    if who.beard in ("full", "moustache"):
        scene.band(
            x * 0.95,
            up - who.lips - 0.1 * (1 - 0.6 * ABS),
            up - who.lips * 0.6,
            mix(who.skin, who.hair, 0.85),
        )
    if np.max(low - up) < 0.035:
        return scene.add(x + 1j * base, dark(who.lip, 0.65), 0.026)
    scene.band(x, up, low, (64, 18, 22))
    scene.band(x[4:11], (0.4 * up + 0.6 * low)[4:11], low[4:11], (178, 74, 78))
    teeth = 0.085 if move.round < 0.4 else 0.045
    scene.band(x[3:12], up[3:12], np.minimum(up + teeth, low)[3:12], (240, 236, 226))
    if move.square > 0.55:
        scene.band(x[2:13], np.maximum(low - 0.07, up)[2:13], low[2:13], (232, 226, 214))


def add_cover(scene: Scene, who: SimpleNamespace, dice: Dice) -> None:
    """What is worn on or held before the face, and may hide what one would like to see."""
    frame, r, s = dice.pick([(30, 26, 26), (90, 50, 30), (150, 150, 156)]), 0.26, who.side
    for k in (-1, 1) if who.glasses else ():
        lens = r * (RING.real + 0.9j * RING.imag) + k * who.spacing - 0.04j
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
            scene.add([knuckle, knuckle + 0.65j], dark(who.skin, 0.25), 0.018)
    elif hides < 0.22:  # a post, a cable, a neighbour's shoulder
        edge = np.array([-lean - 2j, lean + 2j])
        scene.add(np.append(s * x + edge, s * (x + y / 3) + edge[::-1]), dice.pick(CLOTH))
