"""How long writing a Segmentation object takes, as a ratio to highdicom on the same masks in the same run.

Subject: the own assembly for a run (build and encode). Peer: highdicom's ``Segmentation`` with the same masks on a CT
series of equal size (highdicom refuses runs), built with defaults and saved through pydicom. Rounds are paired and
alternate which of the two goes first; the ratio is the median over rounds. Goal: at most 0.5 for 200 frames.

``--read`` compares reading instead: ``read_segmentation`` against ``highdicom.seg.segread`` on the same file, each up
to the description of every frame; goal: at most 1.0. ``--variants`` adds size and time of every kind of object, for the
run and for a CT series of equal size, where highdicom makes the frames.

    python benchmarks/seg.py [--frames 200] [--size 512] [--segments 1] [--rounds 7] [--read] [--variants] [--json]
"""

import sys
from pathlib import Path

# a script's own folder is the first on its path, where queue.py would hide the standard library's
sys.path[0] = str(Path(__file__).resolve().parents[1])


import argparse
import atexit
import dataclasses
import json
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from io import BytesIO

import highdicom
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(1, str(ROOT / "tests" / "support"))

import dicom_sources
import seg_cases

from dicom_core.result import SEGMENTATIONS
from worker.image_stack import Imaging
from worker.seg_reader.reading import read_masks
from worker.seg_reader.segmentation_object import read_segmentation
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, encode_segmentation
from worker.segmenters.interface import Segmentation, SegmentClass
from worker.source_series import SourceKind, SourceSeries


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    if arguments.variants:
        _variants(arguments)
    contestants = _readers if arguments.read else _contestants
    subject, peer = contestants(arguments.frames, arguments.size, arguments.segments)
    pairs = [_pair(subject, peer, subject_first=number % 2 == 0) for number in range(arguments.rounds + 1)][1:]
    ratio = statistics.median(own / other for own, other in pairs)
    result = {
        "stage": "seg_read" if arguments.read else "seg",
        "frames": arguments.frames,
        "segments": arguments.segments,
        "rounds": arguments.rounds,
        "own_seconds": round(statistics.median(own for own, _ in pairs), 4),
        "highdicom_seconds": round(statistics.median(other for _, other in pairs), 4),
        "ratio_to_highdicom": round(ratio, 3),
        "goal": 1.0 if arguments.read else 0.5,
    }
    if not arguments.json:
        print(f"{arguments.frames} frames of {arguments.size}x{arguments.size}, {arguments.segments} segment(s)")
        print(f"own {result['own_seconds']:.3f} s, highdicom {result['highdicom_seconds']:.3f} s, ratio {ratio:.2f}")
    print(json.dumps(result))


def _variants(arguments: argparse.Namespace) -> None:
    """One line for each kind of object: bytes, seconds to build and encode, seconds to validate without dciodvfy."""
    for name, source in _sources(arguments.frames, arguments.size).items():
        mask = seg_cases.mask_for(source, arguments.segments, empty_first_frame=False)
        soft = np.empty(mask.shape, np.float16)
        for index in np.ndindex(mask.shape[:2]):
            soft[index] = gaussian_filter(mask[index].astype(np.float32), 2)
        segmentation = dataclasses.replace(_segmentation(mask), probability=soft)
        for kind in sorted(SEGMENTATIONS):
            start = time.perf_counter()
            dataset = build_segmentation(source, segmentation, seg_cases.IDENTITY, kind=kind)
            content = encode_segmentation(dataset)
            built = time.perf_counter()
            validate_segmentation(
                dcmread(BytesIO(content)), source, mask, kind=kind, probability=soft, use_dciodvfy=False
            )
            line = {
                "stage": "seg_variant",
                "source": name,
                "kind": kind.value,
                "frames": int(dataset.NumberOfFrames),
                "bytes": len(content),
                "build_seconds": round(built - start, 3),
                "validate_seconds": round(time.perf_counter() - built, 3),
            }
            print(json.dumps(line))


def _sources(frames: int, size: int) -> dict[str, SourceSeries]:
    slices = dicom_sources.ct_series(frames, size, size)
    for dataset in slices:
        del dataset.PixelData
    return {
        "run": seg_cases.as_series(dicom_sources.xa_run(frames, size, size), SourceKind.RUN, Imaging.XRAY_ANGIOGRAPHY),
        "slices": seg_cases.as_series(slices, SourceKind.SLICES, Imaging.CT),
    }


def _segmentation(mask: np.ndarray) -> Segmentation:
    return seg_cases.segmentation_of(mask, [SegmentClass("artery", f"Branch {number}") for number in range(len(mask))])


def _readers(frames: int, size: int, segments: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Both ways from a file to the description of every frame; pixels are decoded by neither."""
    source = _sources(frames, size)["slices"]
    mask = seg_cases.mask_for(source, segments, empty_first_frame=False)
    path = Path(tempfile.mkdtemp(prefix="vesselq-")) / "seg.dcm"
    atexit.register(shutil.rmtree, path.parent)
    path.write_bytes(encode_segmentation(build_segmentation(source, _segmentation(mask), seg_cases.IDENTITY)))
    return lambda: read_segmentation(path), lambda: highdicom.seg.segread(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--segments", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="measured pairs, after one to warm up")
    parser.add_argument("--read", action="store_true", help="compare reading instead of writing")
    parser.add_argument("--variants", action="store_true", help="size and time of every kind of object first")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    return parser.parse_args()


def _contestants(frames: int, size: int, segments: int) -> tuple[Callable[[], bytes], Callable[[], bytes]]:
    """Both ways from mask to bytes, after a check that both hold the same masks."""
    sources = _sources(frames, size)
    run, slices = sources["run"], list(sources["slices"].datasets)
    mask = seg_cases.mask_for(run, segments, empty_first_frame=False)
    segmentation = _segmentation(mask)

    def subject() -> bytes:
        return encode_segmentation(build_segmentation(run, segmentation, seg_cases.IDENTITY))

    def peer() -> bytes:
        return _highdicom(slices, mask)

    for content in (subject(), peer()):
        dataset = highdicom.seg.segread(BytesIO(content))
        read = read_masks(dataset)
        if len(read) != mask.shape[0] * mask.shape[1] or sum(map(np.count_nonzero, read.values())) != mask.sum():
            raise SystemExit("the two objects do not hold the same masks")
    return subject, peer


def _highdicom(slices: list[Dataset], mask: np.ndarray) -> bytes:
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"Vessel {number}",
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.BloodVessel,
            algorithm_type="AUTOMATIC",
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                "ridge", codes.DCM.ArtificialIntelligence, "1.0"
            ),
        )
        for number in range(1, len(mask) + 1)
    ]
    built = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=np.moveaxis(mask, 0, -1),
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=900,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="highdicom",
        manufacturer_model_name="highdicom",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    buffer = BytesIO()
    built.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _pair(subject: Callable[[], object], peer: Callable[[], object], *, subject_first: bool) -> tuple[float, float]:
    """Seconds of subject and peer, measured one right after the other."""
    if subject_first:
        return _seconds(subject), _seconds(peer)
    other = _seconds(peer)
    return _seconds(subject), other


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
