"""A small software renderer: shaded, patterned shapes on a float canvas. Pillow and NumPy only."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 2  # pixels drawn for each pixel kept, along each axis: smooth edges
_LIGHT_SIDE, _LIGHT_ABOVE, _LIGHT_FRONT = 0.55, 0.45, 0.70  # direction of the light, of length 1
_AMBIENT = 0.42

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Surface coordinates (s, t) -> where the second colour shows."""


@dataclass(frozen=True)
class Paint:
    """Colours of a surface before light falls on it."""

    color: np.ndarray
    """[3], 0..1."""
    second: np.ndarray | None = None
    """Colour of the pattern."""
    pattern: Pattern | None = None
    gloss: float = 0.15
    """Strength of the highlight on round surfaces."""

    def at(self, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Colours ``[n 3]``, or ``[1 3]`` without a pattern, at surface coordinates ``[n]``."""
        if self.pattern is None or self.second is None:
            return self.color[None]
        return np.stack([self.color, self.second])[self.pattern(s, t).astype(np.intp)]


@dataclass(frozen=True)
class Flat:
    """A plane face: origin and two axes in object coordinates, and how much light it gets."""

    origin: np.ndarray = field(default_factory=lambda: np.zeros(2))
    across: np.ndarray = field(default_factory=lambda: np.array([1.0, 0.0]))
    along: np.ndarray = field(default_factory=lambda: np.array([0.0, 1.0]))
    light: float = 1.0

    def shade(self, u: np.ndarray, v: np.ndarray, paint: Paint, side: float) -> np.ndarray:
        """Colours ``[n 3]`` at object coordinates ``[n]``; ``side`` is +1 with light from the right, else -1."""
        onto_axes = np.linalg.inv(np.stack([self.across, self.along], axis=1)).astype(np.float32)
        s, t = onto_axes @ (np.stack([u, v]) - self.origin.astype(np.float32)[:, None])
        return paint.at(s, t) * np.float32(self.light)


@dataclass(frozen=True)
class Round:
    """A surface of revolution around the vertical axis ``u = center``.

    ``heights`` [k] rises downwards; ``radii`` [k] is the half-width at each height.
    """

    heights: np.ndarray
    radii: np.ndarray
    center: float = 0.0
    tilt: float = 0.15
    """How far from above it is seen: bands curve down in the middle by this share of the radius."""

    def shade(self, u: np.ndarray, v: np.ndarray, paint: Paint, side: float) -> np.ndarray:
        """Colours ``[n 3]``, like ``Flat.shade``."""
        radius = np.interp(v, self.heights, self.radii).astype(np.float32) + np.float32(1e-3)
        slope = np.interp(v, self.heights, np.gradient(self.radii, self.heights)).astype(np.float32)
        n = np.clip((u - self.center) / radius, -1.0, 1.0)
        facing = np.sqrt(1.0 - n * n)
        length = np.sqrt(1.0 + slope * slope)
        diffuse = (n * side * _LIGHT_SIDE + slope * _LIGHT_ABOVE + facing * _LIGHT_FRONT) / length
        light = _AMBIENT + (1.1 - _AMBIENT) * np.maximum(diffuse, 0.0)
        colors = paint.at(np.arcsin(n) * radius, v - self.tilt * radius * facing) * light[:, None]
        shine = np.exp(-(((n - 0.45 * side) / 0.13) ** 2) - (1.5 * (slope - 0.25)) ** 2)
        return colors + (paint.gloss * shine)[:, None]


@dataclass(frozen=True)
class Part:
    """One closed outline of an object, the role of its colour, and its surface."""

    outline: np.ndarray
    """[n 2] in object coordinates: u to the right, v down, the object about 2 high."""
    role: str
    """"body" carries the pattern; others ("lid", "paper", "wood" ...) are plain."""
    surface: Flat | Round = field(default_factory=Flat)


@dataclass(frozen=True)
class Pose:
    """Place, scale and turn of an object, in canvas pixels and radians."""

    x: float
    y: float
    scale: float
    """Pixels of one object unit."""
    rotation: float = 0.0

    def matrix(self) -> np.ndarray:
        """[2 2], object to canvas."""
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        return self.scale * np.array([[cos, -sin], [sin, cos]])

    def place(self, points: np.ndarray) -> np.ndarray:
        """Canvas coordinates ``[n 2]`` of object coordinates ``[n 2]``."""
        return points @ self.matrix().T + (self.x, self.y)


class Canvas:
    """Colours ``[h w 3]``, float32 in 0..1, larger than the finished image by ``SUPERSAMPLING``."""

    def __init__(self, size: int) -> None:
        self.size = size * SUPERSAMPLING
        self.pixels = np.zeros((self.size, self.size, 3), np.float32)

    def fill(self, part: Part, paint: Paint, pose: Pose, side: float) -> None:
        """Draws one part over what is there; what lies outside the canvas is cut off."""
        points = pose.place(part.outline)
        left, top = np.clip(np.floor(points.min(axis=0)).astype(int), 0, self.size)
        right, bottom = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, self.size)
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (int(right - left), int(bottom - top)))
        ImageDraw.Draw(mask).polygon((points - (left, top)).ravel().tolist(), fill=1)
        rows, columns = np.nonzero(np.asarray(mask))
        if len(rows) == 0:
            return
        rows, columns = rows + top, columns + left
        inverse = np.linalg.inv(pose.matrix()).astype(np.float32)
        u, v = inverse @ np.stack([columns - pose.x, rows - pose.y]).astype(np.float32)
        self.pixels[rows, columns] = part.surface.shade(u, v, paint, side)

    def darken(self, pose: Pose, width: float, height: float, strength: float) -> None:
        """A soft shadow: an ellipse of object units around the pose's place, darkest in its middle."""
        reach = 2.2 * pose.scale
        top, bottom = (int(np.clip(pose.y + sign * reach * height, 0, self.size)) for sign in (-1, 1))
        left, right = (int(np.clip(pose.x + sign * reach * width, 0, self.size)) for sign in (-1, 1))
        y = (np.arange(top, bottom, dtype=np.float32) - pose.y) / (height * pose.scale)
        x = (np.arange(left, right, dtype=np.float32) - pose.x) / (width * pose.scale)
        soft = np.exp(-(y * y))[:, None] * np.exp(-(x * x))
        self.pixels[top:bottom, left:right] *= 1.0 - strength * soft[:, :, None]

    def finish(self, gain: np.ndarray, noise: np.ndarray) -> Image.Image:
        """The image: averaged down, times ``gain`` [3], plus ``noise`` broadcastable to [h w 3]."""
        offsets = range(SUPERSAMPLING)
        cells = [self.pixels[y::SUPERSAMPLING, x::SUPERSAMPLING] for y in offsets for x in offsets]
        small = np.add.reduce(cells) * (gain / len(cells)) + noise
        return Image.fromarray((np.clip(small, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
