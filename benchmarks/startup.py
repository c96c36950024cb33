"""Wall-clock time of `import visiontok` and `visiontok list` against a Python process that imports nothing.

python benchmarks/startup.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(command: list[str], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="processes of each kind, of which the median is printed")
    repeats = parser.parse_args().repeats
    bare = seconds([sys.executable, "-c", "pass"], repeats)
    print(f"bare Python       {bare:.2f} s")
    for name, command in {"import visiontok": ["-c", "import visiontok"], "visiontok list": ["-m", "visiontok", "list"]}.items():
        taken = seconds([sys.executable, *command], repeats)
        print(f"{name:17s} {taken:.2f} s, {taken / bare:.1f} times a bare Python")


if __name__ == "__main__":
    main()
