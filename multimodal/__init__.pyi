# --- a job ---
from multimodal.config import (
    Job as Job,
    Data as Data,
    Input as Input,
    Augment as Augment,
    Candidate as Candidate,
    FeatureMap as FeatureMap,
    Fusion as Fusion,
    Task as Task,
    Costs as Costs,
    ZeroShot as ZeroShot,
    Transfer as Transfer,
    Source as Source,
    Adapt as Adapt,
    Lora as Lora,
    SecondPhase as SecondPhase,
    Train as Train,
    Tracking as Tracking,
    load_job as load_job,
)

# --- training ---
from multimodal.training import fit as fit
from multimodal.run import Run as Run
from multimodal.cross_validation import cross_validate as cross_validate
from multimodal.selection.ranking import rank as rank
from multimodal.selection.transfer_gap import transfer_check as transfer_check

# --- records ---
from multimodal.records.records import read_records as read_records

# --- production ---
from export.exporter import export_bundle as export_bundle
from export.verify import verify_bundle as verify_bundle
from export.bundle import Bundle as Bundle
from export.predictor import Predictor as Predictor
from export.predictions import write_predictions as write_predictions
from multimodal.decoding import Prediction as Prediction
from export.gallery import Gallery as Gallery

# --- encoders ---
from encoders.base import Encoder as Encoder
from encoders.registry import (
    create_encoder as create_encoder,
    list_encoders as list_encoders,
    register_encoder as register_encoder,
)
from encoders.testing import check_encoder as check_encoder
from encoders.testing import check_preprocessor as check_preprocessor
from fusion.testing import check_fusion as check_fusion
from multimodal.transfer.testing import check_strategy as check_strategy
from encoders.preprocessing.image import ImagePreprocessor as ImagePreprocessor
from encoders.preprocessing.text import TextPreprocessor as TextPreprocessor
from encoders.preprocessing.audio import AudioPreprocessor as AudioPreprocessor
from encoders.preprocessing.registry import register_preprocessor as register_preprocessor

# --- fusion, heads, strategies ---
from fusion.base import FusionModule as FusionModule
from fusion.registry import (
    create_fusion as create_fusion,
    register_fusion as register_fusion,
)
from multimodal.model.heads import Head as Head, HeadPlace as HeadPlace
from multimodal.model.testing import check_task_type as check_task_type
from multimodal.records.targets import TargetReader as TargetReader
from multimodal.task_types import (
    TaskType as TaskType,
    Metric as Metric,
    Decoding as Decoding,
    register_task_type as register_task_type,
)
from multimodal.model.model import (
    ModelOutput as ModelOutput,
    MultimodalModel as MultimodalModel,
)
from multimodal.plugins import register_strategy as register_strategy
from multimodal.plugins import register_tracker as register_tracker
from multimodal.trainer.history import Tracker as Tracker
from multimodal.transfer.plan import (
    TransferStrategy as TransferStrategy,
    Phase as Phase,
    ParamGroup as ParamGroup,
    EncoderPolicy as EncoderPolicy,
    OptimizerSpec as OptimizerSpec,
)

# --- errors ---
from multimodal.config import ConfigError as ConfigError
from multimodal.records.manifests import ManifestError as ManifestError
from multimodal.records.records import RecordError as RecordError
from encoders.preprocessing.base import UnreadableValueError as UnreadableValueError
from encoders.preprocessing.writing import UnwritableFileError as UnwritableFileError
from multimodal.runtime.files import OverwriteError as OverwriteError
from multimodal.runtime.workers import WorkerError as WorkerError
from multimodal.runtime.checkpoint import CheckpointError as CheckpointError
from multimodal.trainer.state import TrainingError as TrainingError
from multimodal.trainer.memory import OutOfMemoryError as OutOfMemoryError
from multimodal.run import RunError as RunError
from multimodal.transfer.folds import EmptyFoldError as EmptyFoldError
from export.bundle import BundleError as BundleError
from export.session import DeviceError as DeviceError
from export.parity import ParityError as ParityError
from export.to_onnx import OnnxError as OnnxError
from export.prediction_files import ResumeError as ResumeError
from export.gallery import GalleryError as GalleryError
from encoders.contract import ContractError as ContractError

__version__: str
