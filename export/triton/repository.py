"""Writing a Triton model repository from a bundle. Never imports torch."""

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from export.bundle import Bundle
from export.bundle_folder import new_bundle, read_bundle
from export.loading import choose_model_precision, load_decoding, load_input, load_session
from export.session import output_sizes
from export.triton.configs import Message, ensemble_config, graph_config, postprocess_config, preprocess_config
from export.triton.pbtxt import to_pbtxt
from export.triton.stages import Preprocessing
from multimodal.runtime.files import naming, refuse_overwriting, write_atomically

VERSION = "1"
_MODEL = '''"""{title} of {bundle}, by the installed package multimodal-transfer."""

from export.triton.backend import {name} as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_triton_repository(
    bundle: Bundle | str | Path,
    folder: str | Path,
    *,
    precision: str = "fp32",
    max_batch_size: int = 32,
    instances: int = 2,
    allow_plugins: Collection[str] | None = (),
) -> dict[str, str]:
    """Writes four models: ``NAME`` (the ensemble), ``NAME_preprocess``, ``NAME_graph`` and ``NAME_answer``.

    The ensemble takes raw values, ``raw.<input>`` as bytes (a file's content, or a text as UTF-8; empty where it is
    missing), and gives ``<task>`` and ``<task>_probability``; numbers and vectors have none. The Python models need
    this package, without torch, in the server's environment.

    Args:
        precision: of the graph, for the machines that will serve it.
        max_batch_size: largest number of records in one batch.
        instances: processes of the preprocessing.
        allow_plugins: preprocessors and task types of other distributions that may be loaded, here and by the server,
            which needs them installed; None allows every installed one.

    Returns:
        Part ("ensemble", "preprocess", "graph", "answer") -> name of its model.

    Raises:
        OverwriteError: if ``folder`` lies in the bundle.
        BundleError: if the bundle is not complete or needs a preprocessor or task type that is not allowed or not
            installed, or ``folder`` is not empty.
        ValueError: if an argument is out of range, or the bundle has no such precision.
    """
    for name, value in (("max_batch_size", max_batch_size), ("instances", instances)):
        if value < 1:
            raise ValueError(f"{name} is {value}; give at least 1")
    bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    refuse_overwriting("--triton", folder, [("the bundle", bundle.folder)])
    model = bundle.path(bundle.models[choose_model_precision(bundle, precision, "cpu")])
    sizes = output_sizes(load_session(bundle, model, device="cpu"))
    decodings = {task: load_decoding(bundle, task, sizes[task], allow_plugins) for task in bundle.tasks}
    for name in bundle.inputs:
        load_input(bundle, name, allow_plugins)  # rejects what is not allowed
    blank = Preprocessing(bundle.folder).blank_shapes()
    own = re.sub(r"[^A-Za-z0-9_-]", "_", bundle.name) or "model"  # a job may have any name, a folder may not
    names = {"ensemble": own} | {part: f"{own}_{part}" for part in ("preprocess", "graph", "answer")}
    configs = {
        "ensemble": ensemble_config(bundle, names, decodings, sizes, max_batch_size),
        "preprocess": preprocess_config(bundle, names["preprocess"], max_batch_size, instances),
        "graph": graph_config(bundle, names["graph"], sizes, blank, max_batch_size),
        "answer": postprocess_config(names["answer"], decodings, sizes, max_batch_size),
    }
    with new_bundle(Path(folder)) as staging:
        versions = {part: _write_model(staging, names[part], config) for part, config in configs.items()}
        with naming(versions["graph"] / "model.onnx"):
            shutil.copyfile(model, versions["graph"] / "model.onnx")
        for part, title, parts in (("preprocess", "Preprocessing", "inputs"), ("answer", "Postprocessing", "tasks")):
            with naming(versions[part] / parts):
                shutil.copytree(bundle.folder / parts, versions[part] / parts)
            code = _MODEL.format(title=title, bundle=own, name=f"{part.capitalize()}Model")
            write_atomically(versions[part] / "model.py", code.encode())
    return names


def _write_model(repository: Path, name: str, config: Message) -> Path:
    """The folder of its only version."""
    version = repository / name / VERSION
    version.mkdir(parents=True)
    write_atomically(repository / name / "config.pbtxt", to_pbtxt(config).encode())
    return version
