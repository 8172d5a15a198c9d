"""Drawn images of packages and household things, in disorder: turned, lit, cluttered, partly covered."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from benchmarks.demo_data.canvas import Canvas, Paint, Part, Pattern, Pose
from benchmarks.demo_data.objects import PACKAGES, THINGS
from benchmarks.demo_data.outlines import ellipse, polygon

DRAWN_SIZE = 96
"""Pixels along each side."""

_PALETTE = np.array(
    [
        (0.80, 0.16, 0.18),  # red
        (0.93, 0.52, 0.12),  # orange
        (0.96, 0.79, 0.22),  # yellow
        (0.36, 0.62, 0.25),  # green
        (0.13, 0.52, 0.55),  # teal
        (0.17, 0.36, 0.70),  # blue
        (0.45, 0.27, 0.58),  # violet
        (0.85, 0.45, 0.58),  # pink
    ],
    np.float32,
)
_CREAM = np.array((0.95, 0.93, 0.88), np.float32)  # the ground that most patterns are printed on
_MATERIALS = {
    "paper": (0.93, 0.91, 0.86),
    "glass": (0.72, 0.80, 0.78),
    "foil": (0.80, 0.82, 0.85),
    "metal": (0.68, 0.70, 0.73),
    "wood": (0.50, 0.34, 0.20),
    "dark": (0.16, 0.13, 0.12),
    "leaf": (0.27, 0.52, 0.22),
}


def _stripes(frequency: float, angle: float, phase: float) -> Pattern:
    across, along = np.cos(angle) * frequency, np.sin(angle) * frequency
    return lambda s, t: (s * across + t * along + phase) % 1.0 < 0.5


def _dots(frequency: float, angle: float, phase: float) -> Pattern:
    def pattern(s: np.ndarray, t: np.ndarray) -> np.ndarray:
        rows = t * frequency + phase
        shifted = s * frequency + 0.5 * (np.floor(rows) % 2) + angle
        return (shifted % 1.0 - 0.5) ** 2 + (rows % 1.0 - 0.5) ** 2 < 0.1

    return pattern


def _checks(frequency: float, angle: float, phase: float) -> Pattern:
    first, second = _stripes(frequency * 0.7, angle, phase), _stripes(frequency * 0.7, angle + np.pi / 2, phase)
    return lambda s, t: first(s, t) ^ second(s, t)


def _zigzag(frequency: float, angle: float, phase: float) -> Pattern:
    def pattern(s: np.ndarray, t: np.ndarray) -> np.ndarray:
        wave = np.abs((s * frequency * 0.8 + angle) % 1.0 - 0.5) * 1.6
        return (t * frequency + wave + phase) % 1.0 < 0.5

    return pattern


def _plain(frequency: float, angle: float, phase: float) -> Pattern:
    return lambda s, t: np.zeros(len(s), bool)


PATTERNS: dict[str, Callable[[float, float, float], Pattern]] = {
    "plain": _plain,
    "striped": _stripes,
    "dotted": _dots,
    "checked": _checks,
    "zigzag": _zigzag,
}
"""What is printed on things, by the word for it."""


def draw_image(thing: str, pattern: str, rng: np.random.Generator) -> Image.Image:
    """An image of ``thing`` (a key of PACKAGES or THINGS) with ``pattern`` (a key of PATTERNS) on it.

    Colours, proportions, place, turn, light, background, clutter and cover are drawn from ``rng``.

    >>> draw_image("jar", "dotted", np.random.default_rng(0)).size
    (96, 96)

    Raises:
        LookupError: if there is no such thing or pattern.
    """
    drawn = {**PACKAGES, **THINGS}
    for word, known in ((thing, drawn), (pattern, PATTERNS)):
        if word not in known:
            raise LookupError(f"nobody has drawn {word!r} yet; there are {', '.join(known)}")
    canvas = Canvas(DRAWN_SIZE)
    side = float(rng.choice([-1.0, 1.0]))
    pixels = canvas.size
    horizon = _background(canvas, rng)
    for _ in range(rng.integers(0, 4)):
        _clutter(canvas, rng, horizon, side)
    scale = pixels * rng.uniform(0.34, 0.42)
    pose = Pose(
        pixels * 0.5 + rng.normal() * 0.05 * pixels,
        pixels * 0.52 + rng.normal() * 0.035 * pixels,
        scale,
        rng.normal() * 0.13,
    )
    canvas.darken(Pose(pose.x - side * 0.25 * scale, pose.y + 0.88 * scale, scale), 0.85, 0.2, 0.55)
    paints = _paints(pattern, rng)
    for part in drawn[thing](rng):
        canvas.fill(part, paints[part.role], pose, side)
    if rng.random() < 0.3:
        _cover(canvas, rng, pose, side)
    gain = rng.uniform(0.72, 1.12) * (1.0 + rng.normal(size=3) * 0.05)
    noise = rng.standard_normal((DRAWN_SIZE, DRAWN_SIZE, 1), np.float32) * np.float32(rng.uniform(0.004, 0.02))
    return canvas.finish(gain.astype(np.float32), noise)


def _paints(pattern: str, rng: np.random.Generator) -> dict[str, Paint]:
    """A paint for each role: two colours for the body, one of them for the lid, the rest as they are."""
    first, other = rng.choice(len(_PALETTE), 2, replace=False)
    color = np.clip(_PALETTE[first] * rng.uniform(0.8, 1.15) + rng.normal(size=3) * 0.03, 0.0, 1.0)
    second = _CREAM * rng.uniform(0.85, 1.0)
    if np.abs(_PALETTE[other] - color).sum() > 0.9 and rng.random() < 0.3:  # two colours that differ enough
        second = _PALETTE[other]
    if rng.random() < 0.3:
        color, second = second, color
    angle = rng.integers(-1, 3) * np.pi / 4 + rng.normal() * 0.06
    printed = PATTERNS[pattern](rng.uniform(1.7, 2.4), angle, rng.random())
    paints = {role: _paint(material) for role, material in _MATERIALS.items()}
    paints["body"] = _paint(color, second, printed, gloss=rng.uniform(0.05, 0.3))
    paints["lid"] = _paint(_PALETTE[first if rng.random() < 0.5 else other])
    paints["glass"] = _paint(paints["glass"].color * rng.uniform(0.7, 1.1, 3), gloss=0.5)
    return paints


def _paint(
    color: ArrayLike, second: ArrayLike | None = None, pattern: Pattern | None = None, *, gloss: float = 0.15
) -> Paint:
    other = None if second is None else np.asarray(second, np.float32)
    return Paint(np.asarray(color, np.float32), other, pattern, gloss)


def _background(canvas: Canvas, rng: np.random.Generator) -> float:
    """A wall over a table; gives the height of the table's edge, in canvas pixels."""
    n = canvas.size
    horizon = int(n * rng.uniform(0.45, 0.75))
    grid = np.linspace(-0.5, 0.5, n, dtype=np.float32)
    wall, table = (rng.uniform(0.3, 0.85) + rng.normal(size=3) * 0.08 for _ in range(2))
    across, down = (rng.normal() * 0.2 for _ in range(2))
    light = 1.0 + np.float32(across) * grid[None] + np.float32(down) * grid[:, None]
    np.multiply(light[:horizon, :, None], wall.astype(np.float32), out=canvas.pixels[:horizon])
    np.multiply(light[horizon:, :, None], table.astype(np.float32), out=canvas.pixels[horizon:])
    return float(horizon)


def _clutter(canvas: Canvas, rng: np.random.Generator, horizon: float, side: float) -> None:
    """Something behind the object that looks like none of the classes: a card, a disc, a pole."""
    n = canvas.size
    color = _PALETTE[rng.integers(len(_PALETTE))] * rng.uniform(0.45, 1.0)
    pose = Pose(rng.uniform(0, n), horizon + rng.normal() * 0.12 * n, n * rng.uniform(0.12, 0.3), rng.normal() * 0.6)
    kind = rng.integers(3)
    if kind == 0:
        part = polygon("body", rng.uniform(0.4, 1.0, (4, 1)) * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]))
    elif kind == 1:
        part = ellipse("body", (0.0, 0.0), (rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.9)))
    else:
        part = polygon("body", [(-0.12, -3), (0.12, -3), (0.12, 3), (-0.12, 3)])
    printed = list(PATTERNS.values())[rng.integers(len(PATTERNS))](rng.uniform(1.5, 3.0), rng.uniform(0.0, 3.0), 0.0)
    canvas.fill(part, _paint(color, color * rng.uniform(0.75, 1.25), printed), pose, side)


def _cover(canvas: Canvas, rng: np.random.Generator, pose: Pose, side: float) -> None:
    """A leaf or a strip in front of the object; hides up to about a fifth of it."""
    turn = rng.uniform(0, 2 * np.pi)
    reach = pose.scale * rng.uniform(0.6, 0.9)
    place = Pose(pose.x + reach * np.cos(turn), pose.y + reach * np.sin(turn), pose.scale * rng.uniform(0.5, 0.8), turn)
    if rng.random() < 0.5:
        bend = np.linspace(0, np.pi, 14)
        upper = np.stack([-np.cos(bend), 0.35 * np.sin(bend)], axis=1)
        part = Part(np.concatenate([upper, upper[::-1] * (1, -1)]), "leaf")
        color = np.array((0.25, 0.48, 0.2)) * rng.uniform(0.6, 1.2)
    else:
        part = polygon("paper", [(-0.15, -0.7), (0.15, -0.7), (0.15, 0.7), (-0.15, 0.7)])
        color = rng.uniform(0.2, 0.9, 3)
    canvas.fill(part, _paint(color), place, side)
