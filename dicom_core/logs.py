"""JSON logs, one object a line on standard error. Identifiers yes, patient data never."""

import logging
import sys
from typing import Any

from dicom_core.quick_imports import hidden

with hidden("rich", "better_exceptions"):
    # it would load them to draw tracebacks, which are JSON or plain here
    import structlog

# local variables hold data sets: a traceback shows where, never with what
_tracebacks_without_values = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logs(process: str, level: str = "INFO", *, json: bool | None = None) -> None:
    """Send everything, the logs of libraries included, through one chain.

    Args:
        process: Name of the process kind, bound to every line: ``listener``, ``dispatcher``, ``worker``, ``web``.
        level: Least level of our own lines; libraries are held to WARNING.
        json: JSON lines, or coloured text for a terminal; None: JSON unless standard error is a terminal.
    """
    as_json = not sys.stderr.isatty() if json is None else json

    def name_process(_logger: object, _method: str, line: dict[str, Any]) -> dict[str, Any]:
        line.setdefault("process", process)  # a context variable would be lost in new threads
        return line

    shared: list[Any] = [
        name_process,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Any] = (
        [_tracebacks_without_values, structlog.processors.JSONRenderer(sort_keys=True)]
        if as_json
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("vesselq").setLevel(level)
    # pynetdicom and pydicom print element values, which are patient data, at these levels
    for library in ("pynetdicom", "pydicom", "highdicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module; lines are events with keyword values: ``log.info("job claimed", job_id=...)``."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(f"vesselq.{name}")
    return logger
