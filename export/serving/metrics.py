"""Metrics for Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RECORDS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Metrics of one server; of a request only its route enters, from a closed list."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "multimodal_requests", "Requests answered.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "multimodal_request_seconds",
            "From a request's head to the end of its answer, in seconds.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch = Histogram(
            "multimodal_batch_records", "Records that the model answered at once.", buckets=_RECORDS,
            registry=self.registry,
        )  # fmt: skip
        self._queue = Gauge(
            "multimodal_queue_records", "Records accepted and not yet answered.", registry=self.registry
        )

    def follow_queue(self, length: Callable[[], int]) -> None:
        """Reads the queue's length from a function."""
        self._queue.set_function(length)

    def show_bundle(self, identity: Mapping[str, str | None]) -> None:
        """Adds which bundle responds, as ``Bundle.identity`` has it."""
        info = Info("multimodal_bundle", "Bundle that is served.", registry=self.registry)
        info.info({key: value or "" for key, value in identity.items()})

    def text(self) -> bytes:
        """Metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
