"""What others say of a Segmentation file: dciodvfy and dcmqi, each as one small function.

Nothing here raises when the program is missing: ask ``has_dciodvfy`` and ``has_dcmqi`` first.
"""

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

_SECONDS = 60
_NEWER_THAN_DCIODVFY = re.compile(
    r"Warning - </ContributingEquipmentSequence\(0018,a001\)\[\d+\]/DeviceUID\(0018,1002\)> - "
    r"Attribute is not present in standard DICOM IOD"
)
"""Optional there since a later edition than that of the program (PS3.3 table C.12-1), and asked for by IHE AIR."""


def has_dciodvfy() -> bool:
    """Whether David Clunie's validator (package dicom3tools) is installed."""
    return shutil.which("dciodvfy") is not None


def has_dcmqi() -> bool:
    """Whether dcmqi (what 3D Slicer converts segmentations with) is installed."""
    return find_spec("dcmqi") is not None


def dciodvfy_messages(path: Path) -> list[str]:
    """Every line that dciodvfy prints besides the name of the IOD; a deflated file is inflated for it first.

    One message is dropped: that it does not know Device UID in the contributing equipment.
    """
    with TemporaryDirectory() as folder:
        answer = subprocess.run(
            ["dciodvfy", "-new", str(_readable(path, Path(folder)))],
            check=False, capture_output=True, text=True, errors="replace", timeout=_SECONDS,
        )  # fmt: skip
    lines = (answer.stdout + answer.stderr).splitlines()
    assert lines, "dciodvfy printed nothing at all"
    return [line for line in lines[1:] if not _NEWER_THAN_DCIODVFY.fullmatch(line)]


def _readable(path: Path, folder: Path) -> Path:
    dataset = dcmread(path)
    if not dataset.file_meta.TransferSyntaxUID.is_deflated:
        return path
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(folder / "inflated.dcm", enforce_file_format=True)
    return folder / "inflated.dcm"


@dataclass(frozen=True)
class DcmqiAnswer:
    """What ``segimage2itkimage`` made of a file.

    Attributes:
        converted: Whether it did.
        message: Why not, in dcmqi's words or in ours where it crashed; ``""`` when it did.
        voxels: Voxels of every segment by its number; of a fractional one all that are not 0.
        values: The values by segment number, as dcmqi wrote them, flat and sorted, without 0.
        labels: SegmentLabel by number, from dcmqi's JSON.
    """

    converted: bool
    message: str
    voxels: Mapping[int, int]
    values: Mapping[int, NDArray[np.int64]]
    labels: Mapping[int, str]


def dcmqi_answer(path: Path) -> DcmqiAnswer:
    """Convert a file with dcmqi in a process of its own (it may crash) and count the voxels of what it wrote."""
    with TemporaryDirectory() as folder:
        program = "import sys; from dcmqi import segimage2itkimage; sys.exit(segimage2itkimage())"
        arguments = ["--inputDICOM", str(path), "--outputDirectory", folder, "--outputType", "nrrd"]
        answer = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            check=False, capture_output=True, text=True, errors="replace", timeout=_SECONDS,
        )  # fmt: skip
        errors = [line for line in (answer.stdout + answer.stderr).splitlines() if line.startswith("ERROR")]
        values, labels = _written(Path(folder))
    message = errors[-1] if errors else f"dcmqi crashed (exit code {answer.returncode})"
    voxels = {number: len(found) for number, found in values.items()}
    return DcmqiAnswer(answer.returncode == 0, message if answer.returncode else "", voxels, values, labels)


def dcmqi_voxels(path: Path) -> Mapping[int, int]:
    """Voxels of every segment by its number, as dcmqi converts the file.

    Raises:
        AssertionError: dcmqi did not convert it; the text is dcmqi's.
    """
    answer = dcmqi_answer(path)
    assert answer.converted, answer.message
    return answer.voxels


def _written(folder: Path) -> tuple[dict[int, NDArray[np.int64]], dict[int, str]]:
    """What lies in the folder: a file for each group of segments that do not overlap, one JSON with their labels.

    A file with one segment holds its label or, of a fractional segmentation, its values.
    """
    values: dict[int, NDArray[np.int64]] = {}
    labels: dict[int, str] = {}
    description = folder / "meta.json"
    if not description.exists():
        return values, labels
    for number, group in enumerate(json.loads(description.read_text())["segmentAttributes"], 1):
        stored = _nrrd(folder / f"{number}.nrrd")
        for attributes in group:
            label = int(attributes["labelID"])
            labels[label] = attributes.get("SegmentLabel", "")
            values[label] = np.sort(stored[stored != 0] if len(group) == 1 else stored[stored == label])
    return values, labels


def _nrrd(path: Path) -> NDArray[np.int64]:
    """The values of a gzipped NRRD file, flat."""
    header, _, packed = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    types = {"short": "<i2", "unsigned short": "<u2", "unsigned char": "u1", "uchar": "u1", "float": "<f4"}
    return np.frombuffer(gzip.decompress(packed), types[fields["type"]]).astype(np.int64)
