"""Reliability diagram of a task: predicted probability against observed frequency. Never imports torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.explain.drawing import AGAINST, FAINT, FOR, INK, blended, font, new_canvas
from multimodal.metrics.calibration import BINS
from multimodal.runtime.files import replacing

_SIDE, _LEFT, _TOP, _BOTTOM = 360, 56, 100, 168
_COUNTS_HEIGHT = 60


def draw_reliability(measured: Mapping[str, Any], title: str, file: Path) -> None:
    """Writes a PNG: bars are observed frequencies after the temperature, rings before it; below, counts per bin.

    Args:
        measured: from ``measure_calibration``.
    """
    image, draw = new_canvas(_LEFT + _SIDE + 30, _TOP + _SIDE + _BOTTOM)
    before, after = measured["before"], measured["after"]
    draw.text((_LEFT, 12), title, fill=INK, font=font(15))
    draw.text((_LEFT, 34), _line("before, temperature 1", before), fill=FOR, font=font(12))
    draw.text(
        (_LEFT, 52), _line(f"after, temperature {measured['temperature']:.2f}", after), fill=AGAINST, font=font(12)
    )
    bottom, step = _TOP + _SIDE, _SIDE / BINS
    for index, (count, share) in enumerate(zip(after["bins"]["counts"], after["bins"]["frequency"], strict=True)):
        if count:
            box = (_LEFT + index * step + 1, bottom - share * _SIDE, _LEFT + (index + 1) * step - 1, bottom)
            draw.rectangle(box, fill=blended(AGAINST, 0.55))
    draw.line((_LEFT, bottom, _LEFT + _SIDE, _TOP), fill=INK)
    bins = before["bins"]
    for count, stated, share in zip(bins["counts"], bins["probability"], bins["frequency"], strict=True):
        if count:
            x, y = _LEFT + stated * _SIDE, bottom - share * _SIDE
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), outline=FOR, width=2)
    _axes(draw, bottom)
    _counts(draw, after["bins"]["counts"], bottom + 58)
    with replacing(file) as partial:
        image.save(partial, format="PNG")


def _line(name: str, measured: Mapping[str, Any]) -> str:
    if measured["error"] is None:
        return f"{name}: no records"
    loss = "" if measured["log_loss"] is None else f", log loss {measured['log_loss']:.4f}"
    return f"{name}: calibration error {measured['error']:.4f}{loss}"


def _axes(draw: Any, bottom: int) -> None:
    draw.rectangle((_LEFT, _TOP, _LEFT + _SIDE, bottom), outline=FAINT)
    for tick in (0.0, 0.5, 1.0):
        draw.text((_LEFT - 8, bottom - tick * _SIDE), f"{tick:g}", fill=INK, font=font(12), anchor="rm")
        draw.text((_LEFT + tick * _SIDE, bottom + 6), f"{tick:g}", fill=INK, font=font(12), anchor="ma")
    draw.text((_LEFT + _SIDE / 2, bottom + 24), "predicted probability", fill=INK, font=font(12), anchor="ma")
    draw.text((_LEFT, _TOP - 20), "observed frequency", fill=INK, font=font(12))


def _counts(draw: Any, counts: list[int], top: int) -> None:
    step, floor = _SIDE / BINS, top + _COUNTS_HEIGHT
    for index, count in enumerate(counts):
        height = _COUNTS_HEIGHT * count / max(1, *counts)
        box = (_LEFT + index * step + 1, floor - height, _LEFT + (index + 1) * step - 1, floor)
        draw.rectangle(box, fill=FAINT)
    draw.line((_LEFT, floor, _LEFT + _SIDE, floor), fill=INK)
    label = f"predictions per bin; {sum(counts):,} in all, at most {max(counts):,}"
    draw.text((_LEFT + _SIDE / 2, floor + 6), label, fill=INK, font=font(12), anchor="ma")
