"""Predictions of a server, whatever protocol asks for them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from export.predictor import Predictor
from export.serving.admission import Admission, Permit
from export.serving.batcher import MicroBatcher
from export.serving.metrics import Metrics
from export.serving.readiness import load_verified
from export.serving.responses import RequestError, to_bytes
from export.serving.settings import Settings
from multimodal.decoding import Prediction
from multimodal.explain.explanation_target import explanation_target
from multimodal.explain.shapley import MAX_INPUTS, contributions
from multimodal.inference.record_model import all_finite
from multimodal.inference.sources import Sample
from multimodal.records import RecordError
from multimodal.runtime.threads import available_cores

logger = logging.getLogger(__name__)
State = Literal["starting", "ready", "draining", "failed"]
T = TypeVar("T")


@dataclass(frozen=True)
class PredictionResponse:
    """Outputs and predictions of one record."""

    outputs: dict[str, np.ndarray]
    """Output -> raw values [c]."""
    predictions: dict[str, Prediction]


class Service:
    """One bundle behind a queue; every method but ``load`` belongs to the event loop's thread.

    Args:
        folder: of the bundle.
        load: loads the bundle after checking it; called in a thread.
    """

    def __init__(self, folder: Path, settings: Settings, *, load: Callable[[Path], Predictor] = load_verified) -> None:
        self.folder = folder
        self.settings = settings
        self.metrics = Metrics()
        self.identity: dict[str, str | None] = {}
        """Of the bundle that is loaded."""
        self.state: State = "starting"
        self.failure: Exception | None = None
        self.on_end: Callable[[], None] = lambda: None
        """Called if the bundle cannot be served."""
        self.admission = Admission(settings.max_queue, settings.limits.max_bodies_bytes)
        self.metrics.follow_queue(lambda: self.admission.records)
        self._load = load
        self._predictor: Predictor | None = None
        self._model = ThreadPoolExecutor(1, "model")
        self._readers = ThreadPoolExecutor(min(4, available_cores()), "reader")
        self._batcher = MicroBatcher[Sample, PredictionResponse](
            self._predict,
            self._model,
            max_batch=settings.max_batch,
            max_wait_ms=settings.max_wait_ms,
            observe=self.metrics.batch.observe,
        )

    @property
    def predictor(self) -> Predictor:
        """Loaded bundle.

        Raises:
            RequestError: 503 if it is not loaded (yet).
        """
        if self._predictor is None:
            raise RequestError(503, "the bundle is still being checked; try again later", retry_after=1)
        return self._predictor

    @property
    def name(self) -> str:
        """Name of the model in addresses."""
        return self.settings.name or self.predictor.bundle.name

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Loads the bundle in the background and serves until the block ends."""
        tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._batcher.serve())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._readers.shutdown(cancel_futures=True)
            self._model.shutdown(cancel_futures=True)

    def drain(self) -> None:
        """Ends readiness; requests still get responses."""
        self.state = "draining"

    def refusal(self) -> bytes | None:
        """Bytes of a 429 if there is no room for another request, else None.

        A request that passes is pending until ``passed`` is called: of many that arrive at once, all would else see
        the same room.
        """
        if self.admission.has_room or self.state != "ready":
            self.admission.pending += 1
            return None
        self.metrics.requests.labels("refused", 429).inc()
        error = self.admission.full()
        body = to_bytes(error.content())
        head = (
            "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n"
            f"retry-after: {error.retry_after}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def passed(self) -> None:
        """Ends a pending request: ``request`` has counted it, or never will."""
        self.admission.pending -= 1

    @asynccontextmanager
    async def request(self, size: int) -> AsyncIterator[Permit]:
        """Admits a request, within a time limit.

        Args:
            size: bytes of its body, as announced.

        Raises:
            RequestError: 429 if the queue is full; 408 or 504 if it takes too long.
        """
        with self.admission.admit(size) as permit:
            permit.on_read, permit.on_queued = self._batcher.arrives, self._batcher.arrived
            try:
                async with asyncio.timeout(self.settings.timeout_seconds):
                    yield permit
            except TimeoutError as error:
                status = 504 if permit.is_read else 408
                what = "no response" if permit.is_read else "the body was not sent"
                raise RequestError(status, f"{what} within {self.settings.timeout_seconds:g} s; try again") from error
            finally:
                permit.mark_queued()

    async def in_reader(self, work: Callable[[], T]) -> T:
        """Runs work that would block the event loop in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def read(self, records: Sequence[dict[str, Any]], deadline: float) -> list[Sample]:
        """Arrays of records; called in a thread.

        Args:
            deadline: on the monotonic clock; reading stops there.

        Raises:
            RequestError: 422 for a record that cannot be used.
        """
        samples = []
        for row, record in enumerate(records):
            if time.monotonic() > deadline:
                raise RequestError(504, f"no response within {self.settings.timeout_seconds:g} s; send fewer records")
            try:
                samples.append(self.predictor.read(record, row))
            except RecordError as error:
                raise RequestError(422, error.reason, record=row, input=error.input) from error
        return samples

    async def predict(self, samples: Sequence[Sample], permit: Permit) -> list[PredictionResponse]:
        """Responses of the model, batched with other requests.

        Raises:
            RequestError: 422 if an output is not finite.
        """
        waiting = [self._batcher.submit(sample, _elements(sample)) for sample in samples]
        permit.mark_queued()
        try:
            responses = await asyncio.gather(*waiting)
        finally:
            for future in waiting:
                future.cancel()
        for row, response in enumerate(responses):
            if not all_finite(response.outputs):
                raise RequestError(
                    422, "has no finite answer: its values are beyond what the model can take", record=row
                )
        return responses

    async def explain(self, sample: Sample) -> dict[str, dict[str, Any]]:
        """Contribution of each input to each task's prediction: exact Shapley values.

        Raises:
            RequestError: 422 for more inputs than every combination of which is tried.
        """
        given = sum(present for _, present in sample.values())
        if given > MAX_INPUTS:
            raise RequestError(422, f"has {given} inputs; at most {MAX_INPUTS} are explained, send fewer or do not ask")
        return await asyncio.get_running_loop().run_in_executor(self._model, self._explain, sample)

    def _explain(self, sample: Sample) -> dict[str, dict[str, Any]]:
        box = self.predictor.record_model()
        outputs = box.outputs([sample])
        aims = [
            aim
            for task, decoding in box.decodings.items()
            if (aim := explanation_target(task, decoding, outputs)) is not None
        ]
        return {
            aim.task: {
                "label": aim.label,
                "unit": aim.unit,
                "none": share.none,
                "inputs": share.values,
                "all": share.all,
                "unused": sorted(share.unused),
            }
            for aim, share in zip(aims, contributions(box, sample, aims), strict=True)
        }

    def _predict(self, samples: list[Sample]) -> list[PredictionResponse]:
        start = time.perf_counter()
        outputs = self.predictor.outputs(samples)
        responses = [
            PredictionResponse({name: values[row] for name, values in outputs.items()}, predictions)
            for row, predictions in enumerate(self.predictor.decode(samples, outputs))
        ]
        self.admission.observe(len(samples), time.perf_counter() - start)
        return responses

    async def _start(self) -> None:
        try:
            self._predictor = await asyncio.get_running_loop().run_in_executor(self._model, self._load, self.folder)
            self.identity = self._predictor.bundle.identity()
            self.metrics.show_bundle(self.identity)
            self.state = "ready" if self.state == "starting" else self.state
            facts = {"device": self._predictor.device, "precision": self._predictor.precision}
            logger.info("the bundle is checked", extra={"fields": {**self.identity, **facts}})
        except Exception as error:  # raised by ``serve``
            self.failure, self.state = error, "failed"
            self.on_end()


def _elements(sample: Sample) -> int:
    return sum(array.size for arrays, _ in sample.values() for array in arrays.values())
