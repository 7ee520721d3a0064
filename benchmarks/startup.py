"""How long commands take that only list, explain or refuse, and how much memory: `python -c pass` stands beside them.

    python benchmarks/startup.py [--turns 5]

Aim: 0.7 s and 120 MB for lists, help and errors; 5 s for `plan`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
LIGHT = (
    "--help",
    "train --help",
    "recipes",
    "languages",
    "benchmarks",
    "recipes nosuch",
    "train nosuch",
    "info nosuch",
    "evaluate picto --benchmark nosuch",
    "train picto --nosuch",
)
PLAN = "plan mblip-mt0-xl"


def measure(command: list[str]) -> tuple[float, float, float]:
    """(seconds, seconds of processor time, MB at the peak) of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    scale = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    # In a process of its own: the memory that this one takes would count as that of its children.
    subprocess.run([sys.executable, "-c", "from _machine import print_machine; print_machine()"], cwd=HERE)
    program = str(Path(sys.executable).with_name("polylens"))
    sides = {"python -c pass": [sys.executable, "-c", "pass"]}
    sides |= {f"polylens {line}": [program, *line.split()] for line in (*LIGHT, PLAN)}
    for command in sides.values():
        measure(command)  # once, so that all files are in memory
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, command in sides.items():
            found[name].append(measure(command))
    print(f"{'command':<44}{'seconds':>9}{'spread':>16}{'CPU s':>8}{'MB':>8}")
    for name, runs in found.items():
        seconds, processor, memory = zip(*runs, strict=True)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        middle = f"{statistics.median(seconds):>9.2f}{spread:>16}{statistics.median(processor):>8.2f}"
        print(f"{name:<44}{middle}{max(memory):>8.0f}")


if __name__ == "__main__":
    main()
