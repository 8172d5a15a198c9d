"""The two Python models for Triton's Python backend, which alone has ``triton_python_backend_utils``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.triton.stages import Postprocessing, Preprocessing
from multimodal.records import RecordError


class _Model:
    """Handles requests one by one: a request that cannot be used fails alone, with its reason."""

    stage: Preprocessing | Postprocessing
    names: tuple[str, ...]
    """Names of the input tensors."""

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request."""
        import triton_python_backend_utils as pb_utils

        return [self._respond(request, pb_utils) for request in requests]

    def _respond(self, request: Any, pb_utils: Any) -> Any:
        given = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.names}
        try:
            arrays = self.stage(given)
        except RecordError as error:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))
        # bytes are objects, which stay as they are
        tensors = {name: a if a.dtype == object else np.ascontiguousarray(a) for name, a in arrays.items()}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in tensors.items()])


class PreprocessModel(_Model):
    """Raw values -> the graph's inputs."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the preprocessors beside the model's file."""
        self.stage = Preprocessing(_folder(args))
        self.names = tuple(self.stage.source.readers)


class AnswerModel(_Model):  # model repositories name it
    """Raw outputs -> labels, probabilities and values."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the decodings beside the model's file."""
        self.stage = Postprocessing(_folder(args))
        self.names = tuple(self.stage.decodings)


def _folder(args: Mapping[str, str]) -> Path:
    return Path(args["model_repository"]) / args["model_version"]
