"""How long writing a Segmentation object takes, as a ratio to highdicom on the same masks in the same run.

Subject: the own assembly for a run (build and encode). Peer: highdicom's ``Segmentation`` with the same masks on a CT
series of equal size (highdicom refuses runs), built with defaults and saved through pydicom. Rounds are paired and
alternate which of the two goes first; the ratio is the median over rounds. Goal: at most 0.5 for 200 frames.

    python benchmarks/seg.py [--frames 200] [--size 512] [--segments 1] [--rounds 7] [--json]
"""

import sys
from pathlib import Path

# a script's own folder is the first on its path, where queue.py would hide the standard library's
sys.path[0] = str(Path(__file__).resolve().parents[1])


import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from io import BytesIO

import highdicom
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(1, str(ROOT / "tests" / "support"))

import dicom_sources
import seg_cases

from worker.image_stack import Imaging
from worker.seg_writer.reading import read_masks
from worker.seg_writer.writer import build_segmentation, encode_segmentation
from worker.source_series import SourceKind


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    subject, peer = _contestants(arguments.frames, arguments.size, arguments.segments)
    pairs = [_pair(subject, peer, subject_first=number % 2 == 0) for number in range(arguments.rounds + 1)][1:]
    ratio = statistics.median(own / other for own, other in pairs)
    result = {
        "stage": "seg",
        "frames": arguments.frames,
        "segments": arguments.segments,
        "rounds": arguments.rounds,
        "own_seconds": round(statistics.median(own for own, _ in pairs), 4),
        "highdicom_seconds": round(statistics.median(other for _, other in pairs), 4),
        "ratio_to_highdicom": round(ratio, 3),
        "goal": 0.5,
    }
    if not arguments.json:
        print(f"{arguments.frames} frames of {arguments.size}x{arguments.size}, {arguments.segments} segment(s)")
        print(f"own {result['own_seconds']:.3f} s, highdicom {result['highdicom_seconds']:.3f} s, ratio {ratio:.2f}")
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--segments", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="measured pairs, after one to warm up")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    return parser.parse_args()


def _contestants(frames: int, size: int, segments: int) -> tuple[Callable[[], bytes], Callable[[], bytes]]:
    """Both ways from mask to bytes, after a check that both hold the same masks."""
    run = seg_cases.as_series(dicom_sources.xa_run(frames, size, size), SourceKind.RUN, Imaging.XRAY_ANGIOGRAPHY)
    slices = dicom_sources.ct_series(frames, size, size)
    for dataset in slices:
        del dataset.PixelData
    mask = seg_cases.mask_for(run, segments, empty_first_frame=False)
    segmentation = seg_cases.segmentation_of(mask)

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


def _pair(subject: Callable[[], bytes], peer: Callable[[], bytes], *, subject_first: bool) -> tuple[float, float]:
    """Seconds of subject and peer, measured one right after the other."""
    if subject_first:
        return _seconds(subject), _seconds(peer)
    other = _seconds(peer)
    return _seconds(subject), other


def _seconds(action: Callable[[], bytes]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
