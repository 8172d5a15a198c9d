"""Interface of a run that can be exported."""

from collections.abc import Mapping
from typing import Any, Protocol

from multimodal.config import Job
from multimodal.decoding import Decoding
from multimodal.model import MultimodalModel
from multimodal.records import InputReader, Records
from multimodal.records.targets import TargetReader


class TrainedRun(Protocol):
    """Trained run; ``multimodal.run.Run`` is one."""

    @property
    def job(self) -> Job:
        """The job."""
        ...

    @property
    def model(self) -> MultimodalModel:
        """Trained model, on the CPU."""
        ...

    @property
    def readers(self) -> dict[str, InputReader]:
        """Input -> reader of its column."""
        ...

    @property
    def decodings(self) -> dict[str, Decoding]:
        """Task -> decoding of its outputs."""
        ...

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``; may be empty."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """Data hashes, seed, and each encoder's weights with licence and sha256."""
        ...

    @property
    def targets(self) -> Mapping[str, TargetReader]:
        """Task -> reader of its known values."""
        ...

    def training_records(self) -> Records | None:
        """Records that give int8 its ranges, if there are any."""
        ...

    def validation_records(self) -> Records | None:
        """Records to judge a precision on, and to take golden ones from, if there are any."""
        ...
