"""ONNX files as an encoder that onnxruntime runs; it has no gradients, and stays frozen."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, Provenance
from encoders.info import Weights
from encoders.onnx.description import (
    DESCRIPTION_FILE,
    Description,
    find_description,
    guess_description,
    read_description,
)
from encoders.onnx.file import check_onnx, check_onnx_file
from encoders.preprocessing import Preprocessor, preprocessor_from_config
from encoders.preprocessing.text import text_tensors
from encoders.text.late import LateTextPreprocessor
from encoders.weights.state import digest_of_files

FAMILY = "onnx/"

logger = logging.getLogger(__name__)


class OnnxEncoder(Encoder):
    """An ONNX graph with the tensors of its preprocessor as inputs, and ``tokens`` and ``mask`` as outputs.

    Run by onnxruntime on the CPU, without gradients. The graph is a buffer, so that runs hold it as they hold weights;
    a model's export puts it into the model's graph (``export.to_onnx``).

    Args:
        graph: content of the file; uint8.
        embed_dim: of the tokens.
    """

    graph: Tensor

    def __init__(self, preprocessor: Preprocessor, graph: Tensor, embed_dim: int) -> None:
        super().__init__()
        self.modality, self.embed_dim, self.preprocessor = preprocessor.modality, embed_dim, preprocessor
        self.register_buffer("graph", graph)
        self._session: Any = None

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Runs the graph."""
        if torch.jit.is_tracing():  # a trace would keep these tokens as constants
            raise RuntimeError(f"{self.name} cannot be traced; its graph is there already, as `content`")
        specs = self.preprocessor.tensors
        arrays = {spec.name: inputs[spec.name].detach().cpu().numpy() for spec in specs}
        tokens, mask = self._opened().run(["tokens", "mask"], arrays)
        device = inputs[specs[0].name].device
        return torch.from_numpy(tokens).to(device), torch.from_numpy(mask).to(device)

    @property
    def content(self) -> bytes:
        """Content of the ONNX file."""
        return self.graph.cpu().numpy().tobytes()

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """None: there is nothing to train."""
        return []

    def _opened(self) -> Any:
        if self._session is None:
            import onnxruntime as ort

            check_onnx(memoryview(self.content), self.name)  # also of a run that others made
            options = ort.SessionOptions()
            options.log_severity_level = 4  # what fails is raised, a line on stderr would say it twice
            options.intra_op_num_threads = torch.get_num_threads()
            self._session = ort.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        return self._session

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self._session = None

    def __getstate__(self) -> dict[str, Any]:  # a session can be neither copied nor sent to another process
        return {**self.__dict__, "_session": None}


def onnx_encoder(*, name: str, weights: Weights = None, built: Mapping[str, Any] | None = None) -> OnnxEncoder:
    """``onnx/PATH``: an ONNX file, with ``encoder.json`` beside it where it needs one, or a folder with both.

    Args:
        weights: "pretrained", the file's.
        built: sizes of an encoder that is rebuilt without the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is hostile, damaged, or what it reads cannot be told.
    """
    path = Path(name.removeprefix(FAMILY))
    if built is not None:
        return rebuilt(path, built)
    only_pretrained(name, weights)
    folder, content = find_description(path)
    described = None if content is None else read_description(folder, content)
    encoder = encoder_of_files(described, path)
    if described is None:
        logger.info(f"{name}: no {DESCRIPTION_FILE} beside it: taken as {_in_words(encoder)}")
    return encoder


def only_pretrained(name: str, weights: Weights) -> None:
    """Raises a ValueError for weights that are not the files' own."""
    if weights != "pretrained":
        raise ValueError(
            f"{name} has the weights of its files and no others, and weights is {weights!r}; leave weights out"
        )


def encoder_of_files(description: Description | None, path: Path) -> OnnxEncoder:
    """The encoder that is described, or that the one file at ``path`` tells.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if one is hostile, damaged, or does not suit the others.
    """
    paths = [path] if description is None else description.paths
    for file in paths:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not there, and {DESCRIPTION_FILE} names it")
        check_onnx_file(file)
    try:
        encoder, description = _composed(description, paths)
        encoder.embed_dim = _tried(encoder)
        sizes = {"bytes": len(encoder.graph), "dim": encoder.embed_dim}
        encoder.arguments = {"built": {**sizes, "preprocess": encoder.preprocessor.to_config()}}
    except FileNotFoundError:
        raise
    except Exception as error:  # onnx's and onnxruntime's own have no base class in common
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path}: {reason}") from error
    encoder.provenance = Provenance("pretrained", digest_of_files(paths), description.licence)
    return encoder


def _composed(description: Description | None, paths: Sequence[Path]) -> tuple[OnnxEncoder, Description]:
    import onnx

    from encoders.onnx.compose import compose, graph_inputs

    models = [onnx.load(file, load_external_data=False) for file in paths]
    if description is None:
        description = guess_description(paths[0], graph_inputs(models[0]))
    preprocessor = preprocessor_from_config(description.preprocess, description.assets)
    graph = compose(description, models, preprocessor.tensors).SerializeToString(deterministic=True)
    return OnnxEncoder(preprocessor, torch.frombuffer(bytearray(graph), dtype=torch.uint8), 0), description


def _tried(encoder: OnnxEncoder) -> int:
    """The dim of the tokens that the graph gives for a blank value.

    Raises:
        ValueError: if it gives none.
    """
    blank = encoder.preprocessor.stack([encoder.preprocessor.blank()] * 2)
    try:
        tokens, mask = encoder({name: torch.from_numpy(array) for name, array in blank.items()})
    except Exception as error:  # onnxruntime's own have no base class in common
        sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in blank.items())
        raise ValueError(
            f"onnxruntime cannot run it on two blank values ({sizes}): {error}; correct the file, or {DESCRIPTION_FILE}"
        ) from error
    if tokens.shape[:2] != mask.shape or not mask.any(dim=1).all():
        raise ValueError(
            f"gives tokens {list(tokens.shape)} and a mask {list(mask.shape)} for two blank values; an encoder gives "
            "[b l d], at least one for the shortest value (raise preprocess.min_seconds to the window's)"
        )
    return tokens.shape[2]


def rebuilt(path: Path, built: Mapping[str, Any]) -> OnnxEncoder:
    """The encoder with an empty graph, of the sizes that its ``arguments`` have; its weights bring the graph."""
    config = built["preprocess"]
    if config["kind"] == "text":
        length = config["max_tokens"] if config.get("fixed_length") else "tokens"
        preprocessor: Preprocessor = LateTextPreprocessor(partial(_text, path, config), text_tensors(length))
    else:
        preprocessor = preprocessor_from_config(config, {})
    return OnnxEncoder(preprocessor, torch.zeros(built["bytes"], dtype=torch.uint8), built["dim"])


def _text(path: Path, config: Mapping[str, Any]) -> Preprocessor:
    folder = path if path.is_dir() else path.parent
    return preprocessor_from_config(config, Description(folder, (), config).assets)


def _in_words(encoder: OnnxEncoder) -> str:
    config = {key: value for key, value in encoder.preprocessor.to_config().items() if key != "kind"}
    pixels = ", pixels normalised by ImageNet's mean and deviation" if encoder.modality == "image" else ""
    return f"{encoder.modality} {config}{pixels}; tokens of {encoder.embed_dim}"
