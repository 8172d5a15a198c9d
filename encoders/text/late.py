"""A preprocessor that is made when it is needed."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from encoders.preprocessing import Arrays, Preprocessor, TensorSpec


class LateTextPreprocessor:
    """Makes a model's preprocessor when it is first used, and is that preprocessor from then on.

    For an encoder that is rebuilt from its config: whoever rebuilds it brings the preprocessor, too, and the
    model's files may be gone.

    Args:
        make: gives it; picklable.
        tensors: as it will declare them.
    """

    modality: str = "text"

    def __init__(self, make: Callable[[], Preprocessor], tensors: tuple[TensorSpec, ...]) -> None:
        self.make, self.tensors = make, tensors

    @cached_property
    def _found(self) -> Preprocessor:
        return self.make()

    def __call__(self, raw: Any) -> Arrays:
        """Forwards to the preprocessor, as all the others do."""
        return self._found(raw)

    def blank(self) -> Arrays:
        """Stands in for a missing value."""
        return self._found.blank()

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """Every tensor, padded."""
        return self._found.stack(samples)

    def to_config(self) -> dict[str, Any]:
        """JSON of the preprocessor."""
        return self._found.to_config()

    def assets(self) -> dict[str, str]:
        """Its tokenizer or vocabulary."""
        assets: dict[str, str] = getattr(self._found, "assets", dict)()
        return assets
