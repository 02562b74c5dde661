"""Logs are events with keys: pretty on a terminal, one JSON object a line on stderr elsewhere.

Call `configure` once, first thing in a process; everywhere else `log = structlog.get_logger()`. What
libraries log through the standard library (asyncio's forgotten exceptions, aiohttp's errors) takes the same
way out, from WARNING on. The values of keys that name a secret are blotted out at any depth, and so is what
follows "Bearer" in a text: a net below the rule that secrets are not logged, not a licence.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.types import EventDict, Processor

SECRET_KEY = re.compile(
    r"passwo?r?d|secret|token|authorization|credential|private_?key|api_?key", re.IGNORECASE
)
BEARER = re.compile(r"\b(Bearer|Basic)\s+[^\s\"',;]+", re.IGNORECASE)
BLOT = "[redacted]"


def configure(process: str, *, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Set logging up for this process; its name stands in every line. Tests give another `stream`."""
    out = stream if stream is not None else sys.stderr

    def name_process(_logger: object, _method: str, event: EventDict) -> EventDict:
        event.setdefault("process", process)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]
    renderer: Processor = (
        # Plain, because a pretty traceback shows local variables, and with them passwords.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if out.isatty()
        else structlog.processors.JSONRenderer(default=str)
    )
    last: list[Processor] = [structlog.processors.format_exc_info, blot_secrets, renderer]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _take_in_the_standard_library(out, shared, last)


def _take_in_the_standard_library(out: TextIO, shared: list[Processor], last: list[Processor]) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def blot_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace what must not be read in a log."""
    return {key: _blotted(key, value) for key, value in event.items()}


def _blotted(key: object, value: Any) -> Any:
    if isinstance(key, str) and SECRET_KEY.search(key):
        return BLOT
    match value:
        case str():
            return BEARER.sub(rf"\1 {BLOT}", value)
        case Mapping():
            return {inner: _blotted(inner, below) for inner, below in value.items()}
        case list() | tuple():
            return [_blotted(None, below) for below in value]
        case _:
            return value
