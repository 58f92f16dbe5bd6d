"""How much longer a program takes to start that finds landmarks than one that imports NumPy and OpenCV.

``python -m slimalign.benchmarks.import_time`` prints it, and ends with status 1 where it is more than 0.3 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Mapping
from time import perf_counter
from types import MappingProxyType

LARGEST_S = 0.3
BASE = "import numpy, cv2"
PROGRAMS: Mapping[str, str] = MappingProxyType(
    {
        "slimalign.runtimes": "import slimalign.runtimes",
        "all that opens and runs a bundle": "import slimalign.runtimes.bundle, slimalign.runtimes.opening, "
        "slimalign.runtimes.aligner",
    }
)
"""What is imported beside BASE; the inference library is not, it is the user's choice."""


def main() -> int:
    """Print the medians; 0 where nothing takes too long, else 1."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=15, help="starts of each program, in turns")
    found = more_seconds(options.parse_args().rounds)
    for name, seconds in found.items():
        print(f"{name}: {seconds:.3f} s more than {BASE}")  # noqa: T201
    return 0 if max(found.values()) <= LARGEST_S else 1


def more_seconds(rounds: int) -> dict[str, float]:
    """For each of PROGRAMS by how much the median of its starts is above that of BASE, in seconds."""
    programs = [BASE, *(f"{BASE}; {code}" for code in PROGRAMS.values())]
    # Once uncounted: the first start of all writes the compiled modules.
    turns = [[_start_seconds(program) for program in programs] for _ in range(1 + rounds)][1:]
    base, *others = (statistics.median(column) for column in zip(*turns, strict=True))
    return {name: other - base for name, other in zip(PROGRAMS, others, strict=True)}


def _start_seconds(program: str) -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
