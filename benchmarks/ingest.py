"""Intake by C-STORE: our durable listener beside DCMTK storescp and Orthanc, in the same run.

Ours answers 0x0000 after fsync of the file, fsync of the folder and the commit of the record. storescp runs as it
comes, without any fsync; Orthanc with SyncStorageArea. The sender is DCMTK storescu. Everybody has TCP_NODELAY=1 in the
environment: without it DCMTK and Orthanc wait 44 ms for every object and anything looks fast beside them.

In every round each cell (workload and number of associations) is sent to all receivers, in turning order; a ratio is
the median over the rounds of throughput ours / throughput peer. A row counts only after every object was found at the
receiver with equal pixel bytes. Exit code 3 when a peer is not installed.

    python benchmarks/ingest.py [--rounds 5] [--scale 0.1] [--json] [--plot FILE.svg]
"""

import sys
from pathlib import Path

# a script's own folder is the first on its path, where queue.py would hide the standard library's
sys.path[0] = str(Path(__file__).resolve().parents[1])


import argparse
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import psutil

ROOT = Path(__file__).resolve().parents[1]
NODELAY = {**os.environ, "TCP_NODELAY": "1"}
GIB, MIB = 1024**3, 1024**2
ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
OURS, STORESCP, ORTHANC_NAME = "vesselq", "storescp", "orthanc"
MISSING_PEER = 3
STARTUP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Objects of one shape: 16 bit frames of ``rows`` x ``columns``; ``count`` at scale 1."""

    name: str
    count: int
    frames: int
    rows: int
    columns: int


LARGE = "large"
WORKLOADS = (
    Workload("ct512", 512, 1, 512, 512),
    Workload("small", 2000, 1, 128, 128),
    Workload(LARGE, 10, 128, 512, 512),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One receiver, one cell, one round."""

    stage: str
    subject: str
    cell: str
    round: int
    wall: float
    cpu_s: float
    n: int
    bytes: int
    rss: int
    load: float


# --- what is sent -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """Files of one cell in one round: SOP Instance UID -> hash of its pixel bytes."""

    files: tuple[Path, ...]
    pixels: dict[str, str]
    pixel_bytes: int

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)


def make_batch(workload: Workload, count: int, folder: Path) -> Batch:
    """Write fresh objects: one encoded template, other identifiers and pixels in each."""
    template, instance_uid, pixel_bytes = _template(workload)
    folder.mkdir(parents=True)
    files, pixels = [], {}
    noise = secrets.token_bytes(MIB)
    for index in range(count):
        name = f"2.25.{10**35 + secrets.randbelow(9 * 10**35)}"  # as long as the template's
        content = (noise[index % 4096 :] + noise[: index % 4096]) * (pixel_bytes // MIB + 1)
        content = secrets.token_bytes(16) + content[: pixel_bytes - 16]
        file = folder / f"{index:05d}.dcm"
        file.write_bytes(template.replace(instance_uid, name.encode()) + content)
        files.append(file)
        pixels[name] = hashlib.sha256(content).hexdigest()
    return Batch(tuple(files), pixels, pixel_bytes)


def _template(workload: Workload) -> tuple[bytes, bytes, int]:
    from io import BytesIO

    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MultiFrameGrayscaleWordSecondaryCaptureImageStorage

    instance_uid = "2.25." + "1" * 36
    sop_class = CTImageStorage if workload.frames == 1 else MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, instance_uid
    dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Bench^Mark", "BENCH"
    dataset.StudyInstanceUID = f"2.25.{secrets.randbits(100)}"
    dataset.SeriesInstanceUID = f"2.25.{secrets.randbits(100)}"
    dataset.Rows, dataset.Columns = workload.rows, workload.columns
    if workload.frames > 1:
        dataset.NumberOfFrames = workload.frames
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    pixel_bytes = workload.frames * workload.rows * workload.columns * 2
    dataset.PixelData = bytes(pixel_bytes)
    dataset["PixelData"].VR = "OW"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()[:-pixel_bytes], instance_uid.encode(), pixel_bytes


# --- who receives -----------------------------------------------------------------------------------------------------


class Receiver(Protocol):
    """A running Storage SCP."""

    name: str
    ae_title: str
    port: int
    process: psutil.Process

    def pixels(self, batch: Batch) -> dict[str, str]:
        """What of the batch is there: SOP Instance UID -> hash of the pixel bytes."""


class Vesselq:
    """Our listener, a process of its own, with its default settings for durability."""

    name, ae_title = OURS, "VESSELQ"

    def __init__(self, folder: Path, **listener: object) -> None:
        folder.mkdir()
        self._folder = folder
        settings = folder / "settings.json"
        settings.write_text(
            json.dumps(
                {
                    "data_folder": str(folder),
                    "log_level": "ERROR",
                    "listener": {"port": 0, "low_water_bytes": 0, "critical_water_bytes": 0, **listener},
                    "peers": [{"name": "bench", "ae_title": "BENCH"}],
                }
            )
        )
        command = [sys.executable, str(Path(__file__).resolve()), "--listener", str(settings)]
        self._running = subprocess.Popen(command, env=NODELAY, cwd=ROOT)
        self.process = psutil.Process(self._running.pid)
        _wait_until(lambda: (folder / "port").exists() and (folder / "port").read_text() != "", self._running)
        self.port = int((folder / "port").read_text())

    def pixels(self, batch: Batch) -> dict[str, str]:
        """The recorded instances, read from the spool."""
        from db import register
        from db.session import Record

        record = Record(f"sqlite:///{self._folder / 'vesselq.sqlite3'}", process="benchmark")
        try:
            recorded = register.recorded_files(record)
        finally:
            record.close()
        return {
            name: _pixels_at_end(self._folder / "spool" / path, batch.pixel_bytes)
            for name, path, _ in recorded
            if name in batch.pixels
        }


class Storescp:
    """DCMTK storescp as it comes; a process an association."""

    name, ae_title = STORESCP, "STORESCP"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.port = _free_port()
        command = ["storescp", "--fork", "--aetitle", self.ae_title, "--output-directory", str(folder), str(self.port)]
        self._running = subprocess.Popen(command, env=NODELAY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.process = psutil.Process(self._running.pid)
        _wait_until(lambda: _listens(self.port), self._running)

    def pixels(self, batch: Batch) -> dict[str, str]:
        """The files whose names end in a SOP Instance UID of the batch."""
        # "CT.1.2.3", "SC.1.2.3"
        files = {file.name.partition(".")[2]: file for file in self._folder.iterdir()}
        return {name: _pixels_at_end(files[name], batch.pixel_bytes) for name in batch.pixels if name in files}


class Orthanc:
    """Orthanc that synchronises its storage area."""

    name, ae_title = ORTHANC_NAME, "ORTHANC"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port, self._http_port = _free_port(), _free_port()
        configuration = folder / "orthanc.json"
        configuration.write_text(
            json.dumps(
                {
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "SyncStorageArea": True,
                    "DicomAet": self.ae_title,
                    "DicomPort": self.port,
                    "HttpPort": self._http_port,
                    "AuthenticationEnabled": False,
                    "RemoteAccessAllowed": False,
                    "Plugins": [],
                }
            )
        )
        self._running = subprocess.Popen(
            [ORTHANC, str(configuration)], env=NODELAY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.process = psutil.Process(self._running.pid)
        _wait_until(lambda: _listens(self._http_port) and _listens(self.port), self._running)

    def pixels(self, batch: Batch) -> dict[str, str]:
        """The stored files, by REST."""
        found = {}
        for file in batch.files:
            name, orthanc_id = _orthanc_id(file)
            with contextlib.suppress(urllib.error.HTTPError):
                url = f"http://127.0.0.1:{self._http_port}/instances/{orthanc_id}/file"
                with urllib.request.urlopen(url, timeout=60) as answer:
                    found[name] = hashlib.sha256(answer.read()[-batch.pixel_bytes :]).hexdigest()
        return found


def _orthanc_id(file: Path) -> tuple[str, str]:
    from pydicom import dcmread

    header = dcmread(file, stop_before_pixels=True)
    parts = (header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)
    digest = hashlib.sha1("|".join(parts).encode()).hexdigest()  # noqa: S324  Orthanc's way to make identifiers
    return str(header.SOPInstanceUID), "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def _pixels_at_end(file: Path, pixel_bytes: int) -> str:
    with file.open("rb") as opened:
        opened.seek(-pixel_bytes, os.SEEK_END)
        return hashlib.sha256(opened.read()).hexdigest()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start")
        time.sleep(0.02)


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(receiver: Receiver, batch: Batch, associations: int, cell: str, number: int) -> Row:
    """Send one batch and check it."""
    shares = [batch.files[start::associations] for start in range(associations)]
    _forget_peak_memory(receiver.process)
    cpu, begun = _cpu_seconds(receiver.process), time.perf_counter()
    with ThreadPoolExecutor(associations) as pool:
        list(pool.map(lambda share: _send(receiver, share), shares))
    wall = time.perf_counter() - begun
    cpu = _cpu_seconds(receiver.process) - cpu
    rss = _peak_memory(receiver.process)
    if receiver.pixels(batch) != batch.pixels:
        raise RuntimeError(f"{receiver.name} does not hold what was sent in {cell}: the row does not count")
    return Row("intake", receiver.name, cell, number, wall, cpu, len(batch.files), batch.size, rss, os.getloadavg()[0])


def _send(receiver: Receiver, files: Sequence[Path]) -> None:
    titles = ["--aetitle", "BENCH", "--call", receiver.ae_title]
    command = ["storescu", *titles, "127.0.0.1", str(receiver.port), *map(str, files)]
    subprocess.run(command, env=NODELAY, check=True, stdout=subprocess.DEVNULL)


def _cpu_seconds(process: psutil.Process) -> float:
    """Of the process and the children it has reaped or still has."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:2])
    return float(total)


def _forget_peak_memory(process: psutil.Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # proc_pid_clear_refs(5): the peak is what it is now


def _peak_memory(process: psutil.Process) -> int:
    """Largest resident memory of the process since it was forgotten, bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def run(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """All rounds of all cells."""
    rows: list[Row] = []
    with _receivers(folder) as receivers:
        for number in range(arguments.rounds):
            for workload in WORKLOADS:
                count = max(1 if workload.name == LARGE else 8, round(workload.count * arguments.scale))
                for associations in (1,) if workload.name == LARGE else (1, 4, 8):
                    cell = f"{workload.name}/{associations}"
                    if arguments.cells and cell not in arguments.cells:
                        continue
                    # sources stay to the end: after many deletions ext4 looks long for an inode that is free for good
                    batch = make_batch(workload, count, folder / "sources" / f"{number}-{workload.name}-{associations}")
                    turn = number % len(receivers)
                    for receiver in (*receivers[turn:], *receivers[:turn]):
                        rows.append(measure(receiver, batch, associations, cell, number))
                        _say(rows[-1])
    return rows


@contextlib.contextmanager
def _receivers(folder: Path) -> Iterator[list[Receiver]]:
    receivers: list[Receiver] = []
    try:
        for kind in (Vesselq, Storescp, Orthanc):
            receivers.append(kind(folder / kind.name))  # noqa: PERF401  those before a failure must be stopped
        yield receivers
    finally:
        for receiver in receivers:
            receiver.process.terminate()
        psutil.wait_procs([receiver.process for receiver in receivers], timeout=15)


def _say(row: Row) -> None:
    rate, mib = row.n / row.wall, row.bytes / row.wall / MIB
    print(
        f"round {row.round}  {row.cell:8} {row.subject:9} {rate:8.1f} objects/s {mib:8.1f} MiB/s "
        f"{row.cpu_s * GIB / row.bytes:6.2f} CPU s/GiB",
        file=sys.stderr,
    )


# --- telling ----------------------------------------------------------------------------------------------------------


def ratio(rows: Sequence[Row], peer: str, cell: str) -> float | None:
    """Median over the rounds of our throughput over the peer's."""
    walls = {(row.subject, row.round): row.wall for row in rows if row.cell == cell}
    pairs = [walls[peer, number] / wall for (subject, number), wall in walls.items() if subject == OURS]
    return round(statistics.median(pairs), 3) if pairs else None


def summary(rows: Sequence[Row]) -> dict[str, object]:
    """The ratios of every cell and the processor time of every subject."""
    cells = list(dict.fromkeys(row.cell for row in rows))
    cpu = _medians(rows, cells, lambda row: row.cpu_s * GIB / row.bytes)
    told: dict[str, object] = {
        "ratio_to_storescp": ratio(rows, STORESCP, "ct512/1"),
        "ratio_to_orthanc": ratio(rows, ORTHANC_NAME, "ct512/1"),
        "ratios": {cell: {peer: ratio(rows, peer, cell) for peer in (STORESCP, ORTHANC_NAME)} for cell in cells},
        "mib_per_second": _medians(rows, cells, lambda row: row.bytes / row.wall / MIB),
        "cpu_seconds_per_gib": cpu,
        "peak_memory_mib": {
            cell: max(row.rss for row in rows if (row.subject, row.cell) == (OURS, cell)) // MIB for cell in cells
        },
    }
    return {**told, "goals": goals(told), "rows": [asdict(row) for row in rows]}


def _medians(rows: Sequence[Row], cells: Sequence[str], value: Callable[[Row], float]) -> dict[str, dict[str, float]]:
    return {
        subject: {
            cell: round(statistics.median(value(row) for row in rows if (row.subject, row.cell) == (subject, cell)), 3)
            for cell in cells
        }
        for subject in (OURS, STORESCP, ORTHANC_NAME)
    }


GOALS = (
    ("ct512/1", STORESCP, 1.0), ("ct512/4", STORESCP, 0.9), ("small/1", STORESCP, 0.8),
    ("ct512/1", ORTHANC_NAME, 2.0), ("ct512/4", ORTHANC_NAME, 1.7), ("small/1", ORTHANC_NAME, 1.4),
)  # fmt: skip
"""Throughput ours / theirs that is to be reached; storescp never synchronises, Orthanc does."""
CPU_GOAL, MEMORY_GOAL_MIB = 0.7, 150


def goals(told: Mapping[str, Any]) -> list[dict[str, object]]:
    """Each goal with what was reached."""
    lines: list[dict[str, object]] = []
    for cell, peer, wanted in GOALS:
        reached = told["ratios"].get(cell, {}).get(peer)
        if reached is not None:
            lines.append(_goal(f"throughput {cell} / {peer}", wanted, reached, met=reached >= wanted))
    cpu = told["cpu_seconds_per_gib"]
    for cell in cpu[OURS]:
        if not cpu[STORESCP][cell]:
            continue  # too little was sent for the system's clock, which counts 10 ms
        reached = round(cpu[OURS][cell] / cpu[STORESCP][cell], 3)
        lines.append(_goal(f"CPU time {cell} / {STORESCP}", CPU_GOAL, reached, met=reached <= CPU_GOAL))
    for cell, peak in told["peak_memory_mib"].items():
        if cell.startswith(LARGE):
            lines.append(_goal(f"peak memory {cell}, MiB", MEMORY_GOAL_MIB, peak, met=peak <= MEMORY_GOAL_MIB))
    return lines


def _goal(name: str, wanted: float, reached: float, *, met: bool) -> dict[str, object]:
    return {"goal": name, "wanted": wanted, "reached": reached, "met": met}


def draw(told: Mapping[str, Any], file: Path) -> None:
    """Write the picture of a run."""
    from benchmarks.ingest_plot import picture

    rounds = 1 + max(row["round"] for row in told["rows"])
    load = statistics.median(row["load"] for row in told["rows"])
    note = f"medians of {rounds} paired rounds on {os.cpu_count()} cores, load {load:.1f}; ours and Orthanc synchronise"
    speed, cpu = told["mib_per_second"], told["cpu_seconds_per_gib"]
    file.write_text(picture(speed, cpu, list(speed[OURS]), note))


def listener(settings_file: Path) -> None:
    """Be the listener that is measured."""
    from db import migrate
    from db.session import Record
    from dicom_core.logs import configure_logs
    from dicom_core.settings import Settings
    from dicom_listener import process

    settings = Settings(**json.loads(settings_file.read_text()))
    configure_logs("listener", settings.log_level, json=True)
    record = Record(settings.effective_database_url, process="benchmark")
    migrate.upgrade(record)
    record.close()

    def ready(_: str, port: int) -> None:
        (settings.data_folder / "port").write_text(str(port))

    process.run(settings, ready=ready)


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="paired rounds; fewer than 5 are only a look")
    parser.add_argument("--scale", type=float, default=0.1, help="part of the full number of objects")
    parser.add_argument("--cells", nargs="*", help="only these, for example ct512/1 small/4")
    parser.add_argument("--folder", type=Path, help="where everybody stores; must not be a memory file system")
    parser.add_argument("--plot", type=Path, help="also write a picture, SVG")
    parser.add_argument("--json", action="store_true", help="last line of standard output is one JSON object")
    parser.add_argument("--listener", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.listener:
        listener(arguments.listener)
        return 0
    if not shutil.which("storescu") or not shutil.which("storescp") or not Path(ORTHANC).exists():
        print("This benchmark needs DCMTK and Orthanc: apt-get install dcmtk orthanc", file=sys.stderr)
        return MISSING_PEER
    folder = Path(tempfile.mkdtemp(prefix="vesselq-ingest-", dir=arguments.folder))
    try:
        told = summary(run(arguments, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.plot:
        draw(told, arguments.plot)
    if arguments.json:
        print(json.dumps(told))
    else:
        print(json.dumps({key: value for key, value in told.items() if key != "rows"}, indent=1))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
