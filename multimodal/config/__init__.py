"""Description of a job, in Python or YAML. Unknown keys are errors."""

from multimodal.config.fusion import Fusion
from multimodal.config.inputs import Augment, Candidate, FeatureMap, Input
from multimodal.config.job import Data, Job
from multimodal.config.load import load_job, override_job, parse_job
from multimodal.config.problems import ConfigError, errors_of
from multimodal.config.tasks import Costs, Task, ZeroShot
from multimodal.config.train import Tracking, Train
from multimodal.config.transfer import Adapt, Lora, SecondPhase, Source, Transfer

__all__ = [
    "Adapt",
    "Augment",
    "Candidate",
    "ConfigError",
    "Costs",
    "Data",
    "FeatureMap",
    "Fusion",
    "Input",
    "Job",
    "Lora",
    "SecondPhase",
    "Source",
    "Task",
    "Tracking",
    "Train",
    "Transfer",
    "ZeroShot",
    "errors_of",
    "load_job",
    "override_job",
    "parse_job",
]
