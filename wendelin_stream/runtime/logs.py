"""Logging to stderr: plain lines for a person, priorities for the journal, never two timestamps."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class JournalFormatter(logging.Formatter):
    """Lines with the priority in front, as sd-daemon(3) has it; the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, each of its lines under the priority."""
        priority = f"<{_PRIORITY.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in super().format(record).splitlines())


class OneLineFilter(logging.Filter):
    """Escapes control characters, so that nothing a sender wrote can forge a line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message in place; always True."""
        record.msg = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in record.getMessage())
        record.args = ()
        return True


def under_journal() -> bool:
    """Whether stderr goes to the journal (systemd.exec: JOURNAL_STREAM is device:inode)."""
    try:
        status = Path("/proc/self/fd/2").stat()
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def set_up_logging(level: int = logging.INFO) -> None:
    """Send the log to stderr; called once, by the daemon."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(OneLineFilter())
    if under_journal():
        handler.setFormatter(JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
