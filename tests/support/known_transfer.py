"""Text encoders whose weights are known to help or to harm, for tests of what transfer is worth."""

import torch
from support.tiny_models import TinyText

import multimodal as mm
from encoders import registry

COLORS = ("blue", "green", "red")


class Scrambled(TinyText):
    """Its weights say the same of every text."""

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        if weights == "pretrained":
            with torch.no_grad():
                self.project.weight.zero_()


class Plain(TinyText):
    """Its weights tell words apart."""

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        if weights == "pretrained":
            with torch.no_grad():
                self.embed.weight.copy_(torch.eye(len(self.embed.weight), 8))
                self.project.weight.copy_(torch.eye(8))


class Wide(Plain):
    """As ``Plain``, with more parameters."""

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__(weights=weights)
        self.more = torch.nn.Parameter(torch.zeros(1000))


def plant(monkeypatch) -> None:
    """Registers them, and nothing else of one's own."""
    monkeypatch.setattr(registry.ENCODERS, "registered", {})
    for name, kind in (("planted/scrambled", Scrambled), ("planted/plain", Plain), ("planted/wide", Wide)):
        mm.register_encoder(name, modality="text", has_weights=True)(kind)


def color_rows(n: int) -> list[dict[str, str]]:
    """Texts that are their color, in turn; six to a ``shoot``, the last of which has an empty cell."""
    rows = [{"text": COLORS[i % 3], "color": COLORS[i % 3], "shoot": str(i // 6)} for i in range(n)]
    rows[-1]["shoot"] = ""
    return rows
