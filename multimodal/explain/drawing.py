"""Drawing of small diagrams: colours, text, heat over an image. Pillow and NumPy only, never torch."""

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT = (255, 255, 255), (34, 40, 49), (205, 210, 216)
# Okabe and Ito (2008), https://jfly.uni-koeln.de/color/: also for people who do not see every colour
FOR, AGAINST, OTHER = (213, 94, 0), (0, 114, 178), (150, 150, 150)
"""Evidence for the prediction, against it, and neither."""

Color = tuple[int, int, int]


def new_canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """White image, and its drawing context."""
    image = Image.new("RGB", (width, height), PAPER)
    return image, ImageDraw.Draw(image)


@lru_cache(maxsize=8)
def font(size: int = 13) -> Any:
    """Pillow's own font, ``size`` pixels high."""
    return ImageFont.load_default(size)


def text_length(text: str, size: int = 13) -> int:
    """Length of a text in pixels."""
    return round(font(size).getlength(text))


def shortened(text: str, limit: int, size: int = 13) -> str:
    """The text, cut to "..." where it is longer than ``limit`` pixels."""
    if text_length(text, size) <= limit:
        return text
    while text and text_length(text + "...", size) > limit:
        text = text[:-1]
    return text + "..."


def shades(values: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Colour uint8 [..., 3] and opacity [...] in 0..1 of signed values: clear at 0, full at ``limit``."""
    colors = np.where((values > 0)[..., None], np.array(FOR), np.array(AGAINST)).astype(np.uint8)
    opacity = np.clip(np.abs(values) / limit, 0.0, 1.0) if limit > 0 else np.zeros(values.shape)
    return colors, opacity


def heated(pixels: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """Pixels uint8 [h w 3] in grey, under the shades of values [h w], of opacity 0.75 at ``limit``."""
    grey = np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"), np.float64)
    colors, opacity = shades(values, limit)
    weight = 0.75 * opacity[..., None]
    return np.clip((1 - weight) * grey + weight * colors, 0, 255).astype(np.uint8)


def shade(value: float, limit: float, *, most: float = 1.0) -> Color:
    """The shade of one value over white."""
    colors, opacity = shades(np.array(value), limit)
    red, green, blue = colors.tolist()
    return blended((red, green, blue), most * float(opacity))


def blended(color: Color, share: float) -> Color:
    """The colour over white, with that opacity."""
    red, green, blue = (round(255 + (part - 255) * share) for part in color)
    return red, green, blue
