"""The two Python models as Triton's Python backend calls them. Only Triton has ``triton_python_backend_utils``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.triton.stages import Postprocessing, Preprocessing
from multimodal.records import RecordError


class _Model:
    """Answers requests one by one: a request that cannot be used fails alone, with its reason."""

    stage: Preprocessing | Postprocessing
    names: tuple[str, ...]
    """Tensors that it reads."""

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request."""
        import triton_python_backend_utils as pb_utils

        return [self._respond(request, pb_utils) for request in requests]

    def _respond(self, request: Any, pb_utils: Any) -> Any:
        given = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.names}
        try:
            answers = self.stage(given)
        except RecordError as error:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, _whole(array)) for name, array in answers.items()])


class PreprocessModel(_Model):
    """Raw values -> the graph's inputs."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the preprocessors that lie beside the model's file."""
        self.stage = Preprocessing(_folder(args))
        self.names = tuple(self.stage.source.readers)


class AnswerModel(_Model):
    """Raw outputs -> labels, probabilities and values."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the decodings that lie beside the model's file."""
        self.stage = Postprocessing(_folder(args))
        self.names = tuple(self.stage.kinds)


def _folder(args: Mapping[str, str]) -> Path:
    return Path(args["model_repository"]) / args["model_version"]


def _whole(array: np.ndarray) -> np.ndarray:
    """The array as one piece of memory, which Triton takes."""
    return array if array.dtype == object else np.ascontiguousarray(array)
