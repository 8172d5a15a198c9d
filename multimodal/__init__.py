"""Transfer learning over images, text and audio; every public name, loaded when it is first used.

Importing this package loads neither torch nor transformers, and ``Predictor`` never does.
"""

import importlib
from typing import TYPE_CHECKING, Any

from multimodal.runtime.threads import set_omp_wait_policy

if TYPE_CHECKING:
    from encoders import Encoder, create_encoder, list_encoders, register_encoder
    from encoders.preprocessing.audio import AudioPreprocessor
    from encoders.preprocessing.image import ImagePreprocessor
    from encoders.preprocessing.text import TextPreprocessor
    from encoders.testing import check_encoder
    from export import Bundle, Gallery, Prediction, Predictor, export_bundle, verify_bundle
    from fusion import FusionModule, create_fusion
    from multimodal.config import Augment, Data, Fusion, Input, Job, Task, Train, Transfer, load_job
    from multimodal.cross_validation import cross_validate
    from multimodal.model import ModelOutput, MultimodalModel
    from multimodal.model.heads import Head
    from multimodal.records import RecordError, read_records
    from multimodal.run import Run
    from multimodal.selection.ranking import rank
    from multimodal.selection.transfer_gap import transfer_check
    from multimodal.training import fit
    from multimodal.transfer.plan import ParamGroup, Phase, TransferStrategy

__version__ = "0.1.0"

_HOMES = {
    "encoders": ("Encoder", "create_encoder", "list_encoders", "register_encoder"),
    "encoders.preprocessing.audio": ("AudioPreprocessor",),
    "encoders.preprocessing.image": ("ImagePreprocessor",),
    "encoders.preprocessing.text": ("TextPreprocessor",),
    "encoders.testing": ("check_encoder",),
    "export": ("Bundle", "Gallery", "Prediction", "Predictor", "export_bundle", "verify_bundle"),
    "fusion": ("FusionModule", "create_fusion"),
    "multimodal.config": (
        "Augment",
        "Data",
        "Fusion",
        "Input",
        "Task",
        "Job",
        "Train",
        "Transfer",
        "load_job",
    ),
    "multimodal.cross_validation": ("cross_validate",),
    "multimodal.selection.ranking": ("rank",),
    "multimodal.training": ("fit",),
    "multimodal.transfer.plan": ("ParamGroup", "Phase", "TransferStrategy"),
    "multimodal.selection.transfer_gap": ("transfer_check",),
    "multimodal.model.heads": ("Head",),
    "multimodal.model.model": ("ModelOutput", "MultimodalModel"),
    "multimodal.records.records": ("RecordError", "read_records"),
    "multimodal.run": ("Run",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022  (in the order of use)
    "Job",
    "Data",
    "Input",
    "Augment",
    "Fusion",
    "Task",
    "Transfer",
    "Train",
    "load_job",
    "fit",
    "Run",
    "cross_validate",
    "rank",
    "transfer_check",
    "Encoder",
    "create_encoder",
    "list_encoders",
    "register_encoder",
    "ImagePreprocessor",
    "TextPreprocessor",
    "AudioPreprocessor",
    "check_encoder",
    "FusionModule",
    "create_fusion",
    "Head",
    "ModelOutput",
    "MultimodalModel",
    "TransferStrategy",
    "Phase",
    "ParamGroup",
    "RecordError",
    "read_records",
    "Bundle",
    "Prediction",
    "Predictor",
    "Gallery",
    "export_bundle",
    "verify_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'multimodal' has no attribute {name!r}; it has {', '.join(__all__)}")
    set_omp_wait_policy()
    try:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    except ModuleNotFoundError as error:
        from encoders.info import missing_extra

        raise missing_extra(error, "train") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
