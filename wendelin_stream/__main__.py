"""``python -m wendelin_stream`` is ``wendelin-stream``."""

from __future__ import annotations

from wendelin_stream.cli import main

if __name__ == "__main__":
    main()
