"""Ways to make the parts of a drawn object: turned bodies, ellipses, rings, faces and blocks."""

from collections.abc import Sequence

import numpy as np

from benchmarks.demo_data.canvas import Flat, Part, Round

Vector = tuple[float, float]

_FRONT, _SIDE, _TOP = 1.0, 0.70, 1.12  # light on the faces of a block


def revolve(role: str, profile: Sequence[Vector], *, center: float = 0.0, tilt: float = 0.15, smooth: int = 0) -> Part:
    """A turned body: ``profile`` is (height, radius) from top to bottom, rounded ``smooth`` times."""
    steps = 48
    points = np.asarray(profile)
    heights = np.linspace(points[0, 0], points[-1, 0], steps)
    radii = np.interp(heights, points[:, 0], points[:, 1])
    for _ in range(smooth):
        radii[1:-1] = (radii[:-2] + 2 * radii[1:-1] + radii[2:]) / 4
    turn = np.linspace(0.0, np.pi, 13)[1:-1]
    base = np.stack([center - radii[-1] * np.cos(turn), heights[-1] + tilt * radii[-1] * np.sin(turn)], axis=1)
    left = np.stack([center - radii, heights], axis=1)
    right = np.stack([center + radii, heights], axis=1)[::-1]
    outline = np.concatenate([left, base, right])
    return Part(outline, role, Round(heights, radii, center, tilt))


def ellipse(role: str, center: Vector, radii: Vector, *, light: float = 1.0) -> Part:
    """A flat ellipse, for openings and lids."""
    turn = np.linspace(0.0, 2 * np.pi, 28, endpoint=False)
    outline = np.stack([center[0] + radii[0] * np.cos(turn), center[1] + radii[1] * np.sin(turn)], axis=1)
    return Part(outline, role, Flat(np.asarray(center), light=light))


def ring(role: str, center: Vector, radii: Vector, width: float, start: float, stop: float) -> Part:
    """A band along an arc of an ellipse, for handles; angles in radians, 0 to the right, clockwise."""
    turn = np.linspace(start, stop, 20)
    arc = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    outer, inner = arc * (np.asarray(radii) + width / 2), arc * (np.asarray(radii) - width / 2)
    return Part(np.concatenate([outer, inner[::-1]]) + np.asarray(center), role, Flat(np.asarray(center), light=0.85))


def polygon(role: str, points: Sequence[Vector], *, light: float = 1.0) -> Part:
    """A flat face whose pattern follows the object's own axes."""
    return Part(np.asarray(points, dtype=float), role, Flat(light=light))


class Block:
    """A box seen from a corner: ``at(a, b, c)`` is the point a across the front, b back, c up, each 0..1."""

    def __init__(self, width: float, depth: float, height: float, yaw: float) -> None:
        across, back = width * np.cos(yaw), depth * np.sin(yaw)
        self.across = np.array([-across, -0.16 * across * np.sin(yaw)])
        self.back = np.array([back, -0.28 * back])
        self.up = np.array([0.0, -height])
        self.width, self.depth, self.height = width, depth, height
        self.corner = np.array([(across - back) / 2, 0.95])

    def at(self, a: float, b: float, c: float) -> np.ndarray:
        """Object coordinates ``[2]``; c may exceed 1, for roofs."""
        return self.corner + a * self.across + b * self.back + c * self.up

    def face(self, role: str, corners: Sequence[tuple[float, float, float]], light: float, axes: str) -> Part:
        """The plane through ``corners``; its pattern follows the two of "a", "b", "c" that ``axes`` names."""
        vectors = {"a": self.across / self.width, "b": self.back / self.depth, "c": -self.up / self.height}
        outline = np.array([self.at(*corner) for corner in corners])
        return Part(outline, role, Flat(self.corner, vectors[axes[0]], vectors[axes[1]], light))

    def front(self, role: str, low: float = 0.0, high: float = 1.0) -> Part:
        """The part of the front between two shares of its height."""
        return self.face(role, [(0, 0, low), (1, 0, low), (1, 0, high), (0, 0, high)], _FRONT, "ac")

    def flank(self, role: str, low: float = 0.0, high: float = 1.0) -> Part:
        """The right side, as ``front``."""
        return self.face(role, [(0, 0, low), (0, 1, low), (0, 1, high), (0, 0, high)], _SIDE, "bc")

    def lid(self, role: str) -> Part:
        """The upper face."""
        return self.face(role, [(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)], _TOP, "ab")
