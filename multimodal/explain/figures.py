"""Figures of explanations: heat over an image, audio, words; bars of inputs. Never imports torch."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from multimodal.explain.drawing import (
    AGAINST,
    FAINT,
    FOR,
    INK,
    OTHER,
    font,
    heated,
    new_canvas,
    shade,
    shortened,
    text_length,
)
from multimodal.explain.explanation_target import ExplanationTarget
from multimodal.explain.parts import Parts, mean_over_spans
from multimodal.explain.shapley import Contributions

WIDTH, MARGIN, HEADER = 640, 16, 62
LEAST_LIMIT = 0.05
"""Log-odds, or the data's unit, that the full colour stands for at least: noise stays pale."""

_SIDE = 288  # pixels of an image
_LINE = 30


def draw_parts(parts: Parts, drops: np.ndarray, target: ExplanationTarget, name: str, source: Any) -> Image.Image:
    """Image of one input, parts that support the prediction in orange, that oppose it in blue.

    Args:
        drops: evidence lost with each part, [k].
        source: pixels uint8 [3 h w], waveform [s], or the text.
    """
    title = f"{name}: what speaks for {_label(target)}"
    if parts.kind == "image":
        return _image(mean_over_spans(parts.spans, drops, source.shape[1:]), title, target, source)
    if parts.kind == "audio":
        return _audio(mean_over_spans(parts.spans, drops, source[0].shape), title, target, *source)
    return _words(parts, drops, title, target, source)


def draw_contributions(found: Contributions, target: ExplanationTarget, missing: Sequence[str]) -> Image.Image:
    """Bars from the prediction without any input to that for the whole record."""
    names = list(found.values)
    image, draw = _sheet(
        HEADER + _LINE * (len(names) + 2) + MARGIN,
        f"what each input contributes to {_label(target)}",
        f"in {target.unit or 'the unit of the data'}; the bars add up",
    )
    steps = np.cumsum([found.none, *found.values.values()])
    low, high = min(0.0, float(steps.min())), max(float(steps.max()), 1.0 if target.label is not None else -np.inf)
    left, right = 150, WIDTH - 90
    scale = (right - left) / (high - low or 1.0)

    def place(value: float) -> float:
        return left + (value - low) * scale

    rows = [("no input", 0.0 if target.label is not None else found.none, found.none, OTHER, f"{found.none:.3g}")]
    for name, before, after in zip(names, steps[:-1].tolist(), steps[1:].tolist(), strict=True):
        note = "missing" if name in missing else ("not used" if name in found.unused else f"{after - before:+.3g}")
        rows.append((name, before, after, FOR if after >= before else AGAINST, note))
    rows.append(("all inputs", 0.0 if target.label is not None else found.all, found.all, OTHER, f"{found.all:.3g}"))
    for number, (name, start, end, color, note) in enumerate(rows):
        middle = HEADER + _LINE * number + _LINE / 2
        draw.text((left - 10, middle), shortened(name, left - MARGIN - 10), fill=INK, font=font(), anchor="rm")
        ends = sorted((place(start), place(end)))
        if name not in found.unused and name not in missing:
            draw.rectangle((ends[0], middle - 9, max(ends[1], ends[0] + 1), middle + 9), fill=color)
        draw.text((ends[1] + 6, middle), note, fill=INK, font=font(), anchor="lm")
    return image


def draw_neighbors(images: Sequence[np.ndarray | None], captions: Sequence[str]) -> Image.Image:
    """Images (uint8 [3 h w], or None) side by side, the record itself first."""
    side = (WIDTH - MARGIN) // max(4, len(images)) - MARGIN
    image, draw = new_canvas(WIDTH, side + 3 * MARGIN + 8)
    for number, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        left = MARGIN + number * (side + MARGIN)
        if pixels is None:
            draw.rectangle((left, MARGIN, left + side, MARGIN + side), outline=FAINT)
            draw.text((left + side / 2, MARGIN + side / 2), "no image", fill=INK, font=font(12), anchor="mm")
        else:
            image.paste(_fitted(pixels.transpose(1, 2, 0), side), (left, MARGIN))
        draw.text((left, MARGIN + side + 6), shortened(caption, side, 12), fill=INK, font=font(12))
    return image


def _image(heat: np.ndarray, title: str, target: ExplanationTarget, pixels: np.ndarray) -> Image.Image:
    limit = _limit(heat)
    image, _ = _sheet(HEADER + _SIDE + MARGIN, title, _legend(limit, target))
    plain = pixels.transpose(1, 2, 0)
    image.paste(_fitted(plain, _SIDE), (MARGIN, HEADER))
    smooth = Image.fromarray(heat.astype(np.float32)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    grey = np.asarray(_fitted(plain, _SIDE))
    image.paste(Image.fromarray(heated(grey, np.asarray(smooth), limit)), (2 * MARGIN + _SIDE, HEADER))
    return image


def _audio(
    heat: np.ndarray, title: str, target: ExplanationTarget, waveform: np.ndarray, rate: int | None
) -> Image.Image:
    height, limit = 120, _limit(heat)
    image, draw = _sheet(HEADER + height + 40, title, _legend(limit, target))
    columns = WIDTH - 2 * MARGIN
    edges = np.linspace(0, len(waveform), columns + 1).astype(int)
    loudest = max(1e-6, float(np.abs(waveform).max(initial=0.0)))
    middle = HEADER + height / 2
    for column, (start, end) in enumerate(pairwise(edges.tolist())):
        here = slice(start, max(end, start + 1))
        color = shade(float(heat[here].mean()), limit)
        draw.line((MARGIN + column, HEADER, MARGIN + column, HEADER + height), fill=color)
        low, high = float(waveform[here].min()), float(waveform[here].max())
        ends = (middle - high / loudest * height / 2, middle - low / loudest * height / 2)
        draw.line((MARGIN + column, ends[0], MARGIN + column, max(ends[1], ends[0] + 1)), fill=INK)
    length = f"{len(waveform) / rate:.2f} s" if rate else f"{len(waveform)} samples"
    draw.text((MARGIN, HEADER + height + 8), "0", fill=INK, font=font(12))
    draw.text((WIDTH - MARGIN, HEADER + height + 8), length, fill=INK, font=font(12), anchor="ra")
    return image


def _words(parts: Parts, drops: np.ndarray, title: str, target: ExplanationTarget, text: str) -> Image.Image:
    limit = _limit(drops)
    places, x, y = [], MARGIN, HEADER
    for start, end in parts.spans:
        word = shortened(text[start:end], WIDTH - 2 * MARGIN, 15)
        length = text_length(word, 15)
        if x > MARGIN and x + length > WIDTH - MARGIN:
            x, y = MARGIN, y + _LINE
        places.append((word, x, y, length))
        x += length + 10
    image, draw = _sheet(y + _LINE + MARGIN, title, _legend(limit, target))
    for (word, x, y, length), drop in zip(places, drops, strict=True):
        draw.rounded_rectangle((x - 4, y, x + length + 4, y + _LINE - 5), 4, fill=shade(drop, limit, most=0.7))
        draw.text((x, y + 12), word, fill=INK, font=font(15), anchor="lm")
    return image


def _limit(heat: np.ndarray) -> float:
    return max(LEAST_LIMIT, float(np.abs(heat).max(initial=0.0)))


def _legend(limit: float, target: ExplanationTarget) -> str:
    unit = target.evidence_unit or "units"
    return f"orange: hiding it costs evidence; blue: hiding it adds some; full colour: {limit:.2g} {unit}"


def _sheet(height: float, title: str, legend: str) -> tuple[Image.Image, Any]:
    image, draw = new_canvas(WIDTH, round(height))
    draw.text((MARGIN, 12), shortened(title, WIDTH - 2 * MARGIN, 16), fill=INK, font=font(16))
    draw.text((MARGIN, 35), legend, fill=INK, font=font(12))
    return image, draw


def _fitted(pixels: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.LANCZOS)


def _label(target: ExplanationTarget) -> str:
    return target.task if target.label is None else f"{target.task} = {target.label}"
