"""What is counted (Prometheus) and what is logged (JSON lines, without payloads)."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tgqformer.progress import shown

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)
LOGGERS = {"tgqformer.service": "", "uvicorn": "", "py.warnings": "", "python_multipart": "ERROR"}
"""What goes to the log, and its level where it is not the one asked for (forms are broken every day)."""
request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request in work: lines about it carry it."""
requests_log = logging.getLogger("tgqformer.service.requests")


class Telemetry:
    """The counters of one service, and the log line of a request."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tgq_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "tgq_request_seconds", "Time to answer.", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.answers = Counter("tgq_answers", "Similar items, by where from.", ("source",), registry=self.registry)
        self.batches = Histogram(
            "tgq_embedding_batch", "Items embedded together.", buckets=SIZES, registry=self.registry
        )
        self.swaps = Counter("tgq_swaps", "Versions taken into service.", registry=self.registry)
        self.in_work = Gauge("tgq_requests_in_work", "Requests being answered.", registry=self.registry)
        self.waiting = Gauge("tgq_waiting", "Jobs that wait.", ("queue",), registry=self.registry)
        self.stale = Gauge("tgq_stale_items", "Items that are not answered from the table.", registry=self.registry)
        self.ready = Gauge("tgq_lists_ready", "Share of lists by the rules worked out.", registry=self.registry)
        self.index = Gauge("tgq_index_ready", "1 where searches are made in memory.", registry=self.registry)
        self.info = Gauge(
            "tgq_served", "1 for the version served.", ("version", "model_version"), registry=self.registry
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def text(self) -> bytes:
        """Return all of it in the form that Prometheus reads."""
        return generate_latest(self.registry)

    def answered(self, method: str, route: str, status: int, seconds: float, request_id: str) -> None:
        """Count and log one request; `route` is the pattern, so that no id is logged."""
        key = (method, route, status)
        if (pair := self._known.get(key)) is None:
            pair = self._known[key] = (self.requests.labels(method, route, status), self.seconds.labels(route))
        pair[0].inc()
        pair[1].observe(seconds)
        if requests_log.isEnabledFor(logging.INFO):
            about = {
                "method": method,
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 3),
                "id": request_id,
            }
            requests_log.info("request", extra={"about": about})


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the request's id, what `extra={"about": {...}}` gave."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shown(record.getMessage()),
            **({"id": known} if (known := request_id.get()) else {}),
            **getattr(record, "about", {}),
        }
        if record.exc_info:
            line["exception"] = shown(self.formatException(record.exc_info))
        return orjson.dumps(line).decode()


def log_to_stderr(level: str = "info") -> None:
    """Write the logs of the service and of the server as JSON lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.captureWarnings(True)
    for name, least in LOGGERS.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least or level.upper())
