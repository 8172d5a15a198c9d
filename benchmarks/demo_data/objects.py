"""Packages and household things that can be drawn, with varying proportions."""

from collections.abc import Callable

import numpy as np

from benchmarks.demo_data.canvas import Part
from benchmarks.demo_data.outlines import Block, ellipse, polygon, revolve, ring

Object = list[Part]
"""Back to front."""


def carton(rng: np.random.Generator) -> Object:
    """A drinks carton with a gable top."""
    width, height = rng.uniform(0.85, 1.0), rng.uniform(1.15, 1.35)
    block = Block(width, width, height, rng.uniform(0.45, 0.85))
    roof, fin = 1 + 0.36 / height, 1 + 0.50 / height
    ridge, top = [(1, 0.5, roof), (0, 0.5, roof)], [(1, 0.5, fin), (0, 0.5, fin)]
    parts = [
        block.flank("body", 0.0, 1.0),
        block.front("body", 0.0, 1.0),
        block.face("paper", [(0, 0, 1), (0, 1, 1), (0, 0.5, roof)], 0.66, "bc"),
        block.face("paper", [(0, 0, 1), (1, 0, 1), *ridge], 1.08, "ac"),
        block.face("lid", [(0, 0.5, roof), (1, 0.5, roof), *top], 0.95, "ac"),
    ]
    if rng.random() < 0.5:
        cap = block.at(0.5, 0.22, 1 + 0.18 / height)
        parts.append(ellipse("lid", (cap[0], cap[1]), (0.15, 0.12), light=1.1))
    return parts


def box(rng: np.random.Generator) -> Object:
    """A cardboard box, as for cereals."""
    block = Block(rng.uniform(1.05, 1.3), rng.uniform(0.5, 0.7), rng.uniform(1.45, 1.7), rng.uniform(0.4, 0.7))
    low, high = 0.0, rng.uniform(0.72, 0.8)
    return [
        block.lid("paper"),
        block.flank("paper"),
        block.flank("body", low, high),
        block.front("paper"),
        block.front("body", low, high),
        block.front("lid", high, high + 0.06),
    ]


def bottle(rng: np.random.Generator) -> Object:
    """A bottle with a cap and a label."""
    r, neck = rng.uniform(0.40, 0.48), rng.uniform(0.13, 0.17)
    shoulder = rng.uniform(-0.4, -0.2)
    glass = [(-0.85, neck), (shoulder - 0.2, neck + 0.03), (shoulder + 0.12, r), (0.82, r), (0.9, r * 0.94)]
    body = revolve("glass", glass, smooth=3)
    label = [(shoulder + 0.27, r), (0.68, r)]
    return [
        body,
        revolve("body", label),
        revolve("lid", [(-1.0, neck + 0.04), (-0.78, neck + 0.04)]),
        ellipse("lid", (0.0, -1.0), (neck + 0.04, 0.03), light=1.15),
    ]


def jar(rng: np.random.Generator) -> Object:
    """A preserving jar with a wide lid."""
    r, top = rng.uniform(0.62, 0.72), rng.uniform(-0.62, -0.5)
    body = [(top, r * 0.82), (top + 0.12, r * 0.86), (top + 0.3, r), (0.72, r), (0.82, r * 0.9)]
    return [
        revolve("glass", body, smooth=2),
        revolve("body", [(top + 0.36, r), (0.62, r)]),
        revolve("lid", [(top - 0.26, r * 0.9), (top, r * 0.9)]),
        ellipse("lid", (0.0, top - 0.26), (r * 0.9, r * 0.9 * 0.17), light=1.15),
    ]


def tub(rng: np.random.Generator) -> Object:
    """A yoghurt pot: wider above, with a foil lid."""
    top, foot = rng.uniform(0.72, 0.82), rng.uniform(0.48, 0.56)
    rim = rng.uniform(-0.6, -0.45)
    return [
        revolve("body", [(rim, top), (0.8, foot)]),
        revolve("paper", [(rim - 0.04, top * 1.08), (rim + 0.06, top * 1.08)]),
        ellipse("foil", (0.0, rim - 0.04), (top * 1.08, top * 0.2), light=1.1),
        polygon("foil", [(top * 0.9, rim - 0.1), (top * 1.3, rim - 0.02), (top * 0.95, rim + 0.08)], light=0.95),
    ]


def tin(rng: np.random.Generator) -> Object:
    """A tin with metal rims."""
    r, top = rng.uniform(0.62, 0.74), rng.uniform(-0.85, -0.65)
    return [
        revolve("body", [(top, r), (0.78, r)]),
        revolve("metal", [(top - 0.05, r * 1.03), (top + 0.06, r * 1.03)]),
        revolve("metal", [(0.72, r * 1.03), (0.82, r * 1.03)]),
        ellipse("metal", (0.0, top - 0.05), (r * 1.03, r * 0.18), light=1.15),
        ellipse("metal", (0.0, top - 0.04), (r * 0.88, r * 0.14), light=0.85),
    ]


def mug(rng: np.random.Generator) -> Object:
    """A mug with one handle."""
    r, top = rng.uniform(0.6, 0.7), rng.uniform(-0.62, -0.45)
    turn = rng.choice([0.0, np.pi])
    place = (r * 0.95 * np.cos(turn), 0.12)
    return [
        ring("lid", place, (0.36, 0.42), 0.15, turn - 1.7, turn + 1.7),
        revolve("body", [(top, r), (0.7, r), (0.8, r * 0.9)]),
        ellipse("lid", (0.0, top), (r, r * 0.17), light=1.1),
        ellipse("dark", (0.0, top + 0.02), (r * 0.88, r * 0.13)),
    ]


def vase(rng: np.random.Generator) -> Object:
    """A bellied vase with a flared mouth."""
    belly, neck, mouth = rng.uniform(0.58, 0.7), rng.uniform(0.16, 0.24), rng.uniform(0.32, 0.4)
    profile = [(-0.95, mouth), (-0.62, neck), (-0.4, neck + 0.1), (0.1, belly), (0.5, belly * 0.8), (0.88, 0.3)]
    return [
        revolve("body", profile, smooth=6),
        ellipse("dark", (0.0, -0.95), (mouth * 0.9, mouth * 0.14)),
    ]


def teapot(rng: np.random.Generator) -> Object:
    """A round pot with spout, handle and knob."""
    r = rng.uniform(0.62, 0.7)
    side = rng.choice([-1.0, 1.0])
    spout = [(0.45, 0.35), (0.95, -0.3), (1.12, -0.32), (0.75, 0.55)]
    heights = np.linspace(-0.5, 0.62, 13)
    profile = [(h, r * np.sqrt(max(0.1, 1 - ((h - 0.06) / 0.66) ** 2))) for h in heights]
    return [
        polygon("lid", [(side * x, y) for x, y in spout], light=0.9),
        ring("lid", (-side * r * 0.9, 0.02), (0.34, 0.36), 0.13, *((-1.7, 1.7) if side < 0 else (1.44, 4.84))),
        revolve("body", profile, smooth=2),
        revolve("lid", [(-0.66, r * 0.3), (-0.5, r * 0.62)]),
        ellipse("lid", (0.0, -0.72), (0.11, 0.1), light=1.15),
    ]


def ball(rng: np.random.Generator) -> Object:
    """A ball."""
    heights = np.cos(np.linspace(np.pi, 0.0, 25)) * 0.8
    return [revolve("body", [(h, np.sqrt(max(0.0, 0.64 - h * h))) for h in heights], tilt=rng.uniform(0.1, 0.3))]


def lamp(rng: np.random.Generator) -> Object:
    """A table lamp: a shade on a foot."""
    top, rim, foot = rng.uniform(0.3, 0.4), rng.uniform(0.68, 0.8), rng.uniform(0.36, 0.46)
    return [
        revolve("wood", [(0.0, 0.07), (0.62, 0.09), (0.8, foot * 0.5), (0.88, foot)], smooth=2),
        revolve("body", [(-0.9, top), (0.12, rim)]),
        ellipse("paper", (0.0, -0.9), (top, top * 0.15), light=1.15),
    ]


def book(rng: np.random.Generator) -> Object:
    """A standing book: a cover, and pages at its side."""
    block = Block(rng.uniform(1.1, 1.3), rng.uniform(0.32, 0.42), rng.uniform(1.4, 1.65), rng.uniform(0.45, 0.7))
    return [
        block.lid("paper"),
        block.flank("paper"),
        block.front("body"),
        block.face("lid", [(0.88, 0, 0), (1, 0, 0), (1, 0, 1), (0.88, 0, 1)], 0.9, "ac"),
    ]


def bag(rng: np.random.Generator) -> Object:
    """A shopping bag with two handles."""
    top, foot, high = rng.uniform(0.6, 0.7), rng.uniform(0.66, 0.8), rng.uniform(-0.4, -0.25)
    return [
        ring("wood", (0.06, high), (0.3, 0.5), 0.08, np.pi, 2 * np.pi),
        polygon("body", [(-top, high), (top, high), (foot, 0.9), (-foot, 0.9)]),
        polygon("lid", [(-top, high), (top, high), (top * 1.01, high + 0.12), (-top * 1.01, high + 0.12)], light=0.9),
        ring("wood", (-0.04, high + 0.05), (0.3, 0.5), 0.08, np.pi, 2 * np.pi),
    ]


def apple(rng: np.random.Generator) -> Object:
    """An apple with stalk and leaf."""
    r = rng.uniform(0.72, 0.8)
    body = [(-0.58, 0.22), (-0.55, 0.45), (-0.4, 0.64), (-0.1, r), (0.2, r * 0.96), (0.55, r * 0.66), (0.74, 0.26)]
    leaf = [(0.02, -0.62), (0.2, -0.88), (0.52, -0.92), (0.36, -0.68)]
    return [
        revolve("body", body, smooth=4),
        ellipse("dark", (0.0, -0.56), (0.2, 0.06)),
        polygon("wood", [(-0.05, -0.55), (0.03, -0.55), (0.08, -0.9), (0.0, -0.92)]),
        polygon("leaf", leaf),
    ]


def pear(rng: np.random.Generator) -> Object:
    """A pear with its stalk."""
    r, neck = rng.uniform(0.6, 0.7), rng.uniform(0.24, 0.32)
    body = [(-0.72, 0.12), (-0.62, neck), (-0.3, neck + 0.06), (0.1, r * 0.8), (0.42, r), (0.7, r * 0.76), (0.88, 0.25)]
    return [
        revolve("body", body, smooth=5),
        polygon("wood", [(-0.04, -0.7), (0.04, -0.7), (0.12, -0.98), (0.04, -1.0)]),
    ]


def toadstool(rng: np.random.Generator) -> Object:
    """A toadstool: a cap on a stem."""
    r, stem = rng.uniform(0.78, 0.9), rng.uniform(0.2, 0.28)
    cap = [(-0.8, 0.08), (-0.72, 0.36), (-0.5, r * 0.74), (-0.2, r * 0.96), (0.0, r)]
    return [
        revolve("paper", [(-0.1, stem), (0.5, stem), (0.9, stem * 1.4)], smooth=2),
        revolve("body", cap, smooth=2, tilt=0.2),
    ]


PACKAGES: dict[str, Callable[[np.random.Generator], Object]] = {
    "carton": carton,
    "box": box,
    "bottle": bottle,
    "jar": jar,
    "tub": tub,
    "tin": tin,
}
"""What the shop sells, by the word for it."""

THINGS: dict[str, Callable[[np.random.Generator], Object]] = {
    "mug": mug,
    "vase": vase,
    "teapot": teapot,
    "ball": ball,
    "lamp": lamp,
    "book": book,
    "bag": bag,
    "apple": apple,
    "pear": pear,
    "toadstool": toadstool,
}
"""What the source task tells apart; none of them is in the shop."""
