"""How long a person waits for ``vesselq ... --help``.

Subject: the wall time of each command's help, the median of some runs. Peer: ``pip --help`` of the same interpreter, in
turns. Goal: every command under 0.5 s.

    python benchmarks/command_line.py [--runs 5] [--json]
"""

import sys
from pathlib import Path

# a script's own folder is the first on its path, where queue.py would hide the standard library's
sys.path[0] = str(Path(__file__).resolve().parents[1])


import argparse
import json
import statistics
import subprocess
import time

COMMANDS = (
    "", "up", "listener", "dispatcher", "worker", "web", "demo", "send", "segment", "studies", "studies close", "jobs",
    "retry", "cancel", "audit", "audit verify", "db upgrade", "config init", "config check", "doctor", "models list",
    "models show", "version",
)  # fmt: skip
GOAL_SECONDS = 0.5


def main() -> None:
    """Measure and print; exit code 1 when a command misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for command in COMMANDS:
        ours, peers = [], []
        for _ in range(arguments.runs):
            ours.append(_seconds(["-m", "console.cli", *command.split(), "--help"]))
            peers.append(_seconds(["-m", "pip", "--help"]))
        median, peer = statistics.median(ours), statistics.median(peers)
        rows.append(
            {
                "command": f"vesselq {command}".strip(),
                "seconds": round(median, 3),
                "ratio_to_pip": round(median / peer, 2),
            }
        )
        if not arguments.json:
            print(f"{rows[-1]['command']:24} {median:.3f} s   {median / peer:.2f} x pip")
    slowest = max(row["seconds"] for row in rows)
    print(json.dumps({"stage": "help", "goal_seconds": GOAL_SECONDS, "slowest_seconds": slowest, "rows": rows}))
    sys.exit(slowest > GOAL_SECONDS)


def _seconds(arguments: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
