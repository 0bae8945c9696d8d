"""The process that the program runs in, where it is one that goes on, such as a notebook's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from dispatch.terminal.messages import log

LOGGERS = ("", log.name, "asyncio", "urllib3")  # "" is the root, of which all others are part


@contextmanager
def as_it_was() -> Iterator[None]:
    """Give the process its log and its environment back afterwards, whatever a run made of them."""
    environment = dict(os.environ)
    root = logging.getLogger()
    handlers, disabled = list(root.handlers), root.manager.disable
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        logging.disable(disabled)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        for name, value in environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
