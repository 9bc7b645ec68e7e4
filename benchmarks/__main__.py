"""All benchmarks, each figure a ratio to a named limit measured in the same run: `make bench`.

Exits with 1 if a ratio lies below its goal, so that a slow change is seen.
"""

from __future__ import annotations

import sys

from benchmarks import ingest, pipeline, view

GOALS = {
    "ingest small: ratio to the bare sink": 0.3,
    "ingest binary: ratio to the bare sink": 0.5,
    "welch 1024 in a pipeline: ratio to bare rfft": 0.6,
    "welch 8192 in a pipeline: ratio to bare rfft": 0.6,
    "view: sum, ratio to np.memmap": 0.9,
}


def main() -> int:
    missed = 0
    for module in (view, pipeline, ingest):
        for figure, value in module.ratios().items():
            goal = GOALS.get(figure)
            verdict = "" if goal is None else f"goal {goal}: {'ok' if value >= goal else 'MISSED'}"
            missed += goal is not None and value < goal
            print(f"{figure:50} {value:12.3f}  {verdict}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
