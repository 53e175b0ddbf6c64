"""What the server counts, for Prometheus: requests, the queue, batches, seconds. No contents.

Needs prometheus-client (the extra `server`).
"""

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

__all__ = ["CONTENT_TYPE", "OUTCOMES", "ServerMetrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
# How a request for an answer, or one that is refused whatever it asks for, can end. "wrong_host":
# for another name than the server's. "hung_up": the client went before the answer came.
OUTCOMES = (
    "answered", "not_a_picture", "too_large", "too_slow", "bad_request", "wrong_host", "queue_full",
    "stopping", "hung_up", "failed",
)  # fmt: skip
BATCHES = (1, 2, 4, 8, 16, 32, 64)  # pictures
SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class ServerMetrics:
    """The figures of one server; `queue_length` is asked when they are read."""

    def __init__(self, queue_length: Callable[[], int], model: str, sha256: str) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "expression_requests", "Requests by how they ended", ["outcome"], registry=registry
        )
        for outcome in OUTCOMES:  # a figure that begins at 0 can be watched from the beginning
            self.requests.labels(outcome)
        self.faces = Counter("expression_faces", "Faces in the answers", registry=registry)
        self.batches = Histogram(
            "expression_batch_pictures", "Pictures answered together",
            buckets=BATCHES, registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "expression_request_seconds", "From the header of a request to its answer",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        waiting = Gauge("expression_queue_length", "Pictures that wait", registry=registry)
        waiting.set_function(queue_length)
        about = Gauge(
            "expression_model_info", "The network that answers", ["name", "sha256"],
            registry=registry,
        )  # fmt: skip
        about.labels(model, sha256).set(1)
        ProcessCollector(registry=self.registry)  # memory, processor time, open files

    def ended(self, outcome: str, seconds: float = 0.0, faces: int = 0) -> None:
        """Count one request that ended so, after so many seconds."""
        self.requests.labels(outcome).inc()
        self.faces.inc(faces)
        if outcome == "answered":
            self.seconds.observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
