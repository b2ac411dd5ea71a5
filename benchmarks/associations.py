"""What an association costs: to open one that proposes a hundred contexts, and to hold twenty that are idle.

Our listener with its own data path beside the same listener with pynetdicom's (``listener.data_path``).

    python benchmarks/associations.py [--rounds 5] [--json]
"""

import sys
from pathlib import Path

# a script's own folder is the first on its path, where queue.py would hide the standard library's
sys.path[0] = str(Path(__file__).resolve().parents[1])


import argparse
import contextlib
import json
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator

from benchmarks.ingest import Vesselq

CONTEXTS, IDLE, IDLE_SECONDS, OPENINGS = 100, 20, 5.0, 40
RELEASE = b"\x05\0\0\0\0\x04" + bytes(4)


def request() -> bytes:
    """An A-ASSOCIATE-RQ with ``CONTEXTS`` presentation contexts of three transfer syntaxes (PS3.8 section 9.3.2)."""
    from dicom_listener.association_policy import STORAGE_CLASSES

    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(value)) + value

    syntaxes = b"".join(item(0x40, b"1.2.840.10008.1.2" + end) for end in (b"", b".1", b".2"))
    body = struct.pack(">HH", 1, 0) + b"VESSELQ".ljust(16) + b"BENCH".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number in range(CONTEXTS):
        abstract = STORAGE_CLASSES[number % len(STORAGE_CLASSES)].encode()
        body += item(0x20, bytes([2 * number + 1, 0, 0, 0]) + item(0x30, abstract) + syntaxes)
    body += item(0x50, item(0x51, struct.pack(">L", 131072)) + item(0x52, b"1.2.826.0.1.3680043.10.9"))
    return struct.pack(">BBL", 1, 0, len(body)) + body


@contextlib.contextmanager
def associated(port: int, proposed: bytes) -> Iterator[None]:
    """An accepted association, released at the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(proposed)
        header = opened.recv(6, socket.MSG_WAITALL)
        if header[:1] != b"\x02":
            raise RuntimeError("the association was not accepted")
        opened.recv(struct.unpack(">L", header[2:])[0], socket.MSG_WAITALL)
        yield
        opened.sendall(RELEASE)
        opened.recv(10, socket.MSG_WAITALL)


def measure(receiver: Vesselq, proposed: bytes) -> dict[str, float]:
    """Median milliseconds to be accepted, CPU milliseconds for each, share of a core that idle associations take."""
    waits = []
    cpu = sum(receiver.process.cpu_times()[:2])
    for _ in range(OPENINGS):
        begun = time.perf_counter()
        with associated(receiver.port, proposed):
            waits.append(time.perf_counter() - begun)
    cpu = sum(receiver.process.cpu_times()[:2]) - cpu
    with contextlib.ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(associated(receiver.port, proposed))
        idle = sum(receiver.process.cpu_times()[:2])
        time.sleep(IDLE_SECONDS)
        idle = sum(receiver.process.cpu_times()[:2]) - idle
    return {
        "associate_ms": 1000 * statistics.median(waits),
        "associate_cpu_ms": 1000 * cpu / OPENINGS,
        "idle_share_of_a_core": idle / IDLE_SECONDS,
    }


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="paired rounds")
    parser.add_argument("--json", action="store_true", help="last line of standard output is one JSON object")
    arguments = parser.parse_args()
    proposed = request()
    rows: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory(prefix="vesselq-associations-") as folder, contextlib.ExitStack() as stack:
        receivers = {}
        for path in ("own", "pynetdicom"):
            receivers[path] = Vesselq(
                Path(folder) / path, data_path=path, maximum_associations=40, maximum_associations_per_peer=40
            )
            stack.callback(receivers[path].process.terminate)
        for _ in range(arguments.rounds):
            rows += [{"data_path": path, **measure(receiver, proposed)} for path, receiver in receivers.items()]
    told = {
        path: {
            name: round(statistics.median(float(row[name]) for row in rows if row["data_path"] == path), 3)
            for name in ("associate_ms", "associate_cpu_ms", "idle_share_of_a_core")
        }
        for path in receivers
    }
    print(json.dumps({**told, "rows": rows}) if arguments.json else json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
