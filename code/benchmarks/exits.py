"""Run the program many times against the stand-ins, and count how it exits: always with 0.

`python code/benchmarks/exits.py --runs 10000` can be left running. A fault at the exit of the
interpreter, after all the work is done, shows in no other way.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter

from benchmark import PROGRAM, services


def main() -> int:
    """Run the program; return 0 if it always did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    statuses: Counter[int] = Counter()
    started = time.monotonic()
    with services("small", 20) as at, tempfile.TemporaryDirectory() as output:
        command = [
            sys.executable,
            str(PROGRAM),
            "--query={}",
            "--file_extension=nwb",
            "--overwrite=1",
            f"--output_directory={output}",
        ]
        for number in range(runs):
            done = subprocess.run(
                command, env=at.environment, capture_output=True, text=True, check=False
            )
            statuses[done.returncode] += 1
            if done.returncode:
                print(f"run {number} exits with {done.returncode}:\n{done.stderr}")
    print(f"{runs} runs in {time.monotonic() - started:.0f} s, exit statuses: {dict(statuses)}")
    return int(set(statuses) != {0})


if __name__ == "__main__":
    sys.exit(main())
