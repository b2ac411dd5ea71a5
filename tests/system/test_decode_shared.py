"""Every DICOM file of the shared data goes through reading and decoding: a stack or one of our errors, and quickly.

Where pydicom decodes a file too, with its own plug-ins, both agree on every stored value.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_core.errors import SourceError
from worker.image_stack import Imaging
from worker.pixels.codecs import encoded_frame
from worker.pixels.colour import rgb_of_samples
from worker.pixels.decoding import decode
from worker.pixels.frame_bytes import stored_frames
from worker.pixels.layout import PixelLayout, pixel_layout
from worker.pixels.native import native_frame
from worker.source_images.reading import read_series
from worker.source_series import SourceKind

SHARED = Path(os.environ.get("VESSELQ_SHARED", Path(__file__).parents[2].parent / "shared")) / "data"
pytestmark = [
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared data is not there (VESSELQ_SHARED): {SHARED}"),
    # Hostile files: pydicom, asked as the reference, warns of nearly each.
    pytest.mark.filterwarnings("ignore"),
]

SECONDS_PER_FILE = 10
"""The slowest takes 0.4 s on a quiet machine: far above that, far below a hang."""

EXCESS_FRAMES = "TC0287_buf_2x.dcm"
"""Twice the pixels that the header describes: pydicom makes two frames of them, we keep to the header."""


def dicom_files() -> list[Path]:
    folder = SHARED / "dicom"
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def stored_values(path: Path) -> tuple[NDArray[Any], PixelLayout]:
    """All frames as stored, colour as RGB of eight bits."""
    dataset = dcmread(path, stop_before_pixels=True)
    layout = pixel_layout(dataset)
    frames = []
    for keyword, stored in stored_frames(dataset, path, layout):
        if isinstance(stored, bytes):
            values, is_ybr = encoded_frame(stored, layout)
        else:
            values, is_ybr = native_frame(stored, layout, keyword), layout.is_ybr
        frames.append(rgb_of_samples(values, layout, is_ybr=is_ybr) if layout.samples_per_pixel == 3 else values)
    return (frames[0] if len(frames) == 1 else np.stack(frames)), layout


def test_every_file_ends_in_a_stack_or_in_words() -> None:
    """No file of the collection, hostile ones among them, brings another exception or takes long."""
    decoded = 0
    refusals = {}
    for path in dicom_files():
        start = time.monotonic()
        try:
            stack = decode(read_series([path])[0])
        except SourceError as error:
            refusals[path] = str(error)
        else:
            decoded += 1
            assert np.isfinite(stack.pixels).all()
            assert stack.pixels.shape[0] == len(stack.frames)
        assert time.monotonic() - start < SECONDS_PER_FILE, path.name
    assert decoded >= 140
    assert len(refusals) >= 100
    assert not [path for path, text in refusals.items() if str(path) in text], "file names may name patients"


def test_stored_values_agree_with_pydicom() -> None:
    """Every file that pydicom decodes has the same stored values (grey) or RGB values here."""
    agreed = 0
    for path in dicom_files():
        try:
            dataset = dcmread(path)
            if dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
                continue  # refused by us on purpose
            reference = dataset.pixel_array
        except Exception:  # noqa: BLE001, S112 - whatever pydicom cannot decode is no reference
            continue
        values, layout = stored_values(path)
        if path.name == EXCESS_FRAMES:
            reference = reference[0]
        if layout.samples_per_pixel == 3 and layout.bits_stored > 8:
            reference = np.round(reference * (255 / layout.stored_range[1])).astype(np.uint8)
        assert np.array_equal(values, reference), path.name
        agreed += 1
    assert agreed >= 170


@pytest.mark.parametrize(
    ("name", "shape", "kind", "imaging"),
    [
        ("go-dicom/I_000000.dcm", (75, 512, 512), SourceKind.RUN, Imaging.XRAY_ANGIOGRAPHY),
        ("fo-dicom/HasFragmentSequence.dcm", (96, 512, 512), SourceKind.RUN, Imaging.XRAY_ANGIOGRAPHY),
        ("dcmjs/sample-op.dcm", (1, 1536, 1536), SourceKind.PICTURES, Imaging.FUNDUS),
        ("dcmjs/cine-test.dcm", (8, 256, 256), SourceKind.ENHANCED, Imaging.MR),
        ("highdicom/ct_image.dcm", (1, 128, 128), SourceKind.SLICES, Imaging.CT),
    ],
)
def test_real_sources(name: str, shape: tuple[int, ...], kind: SourceKind, imaging: Imaging) -> None:
    """Files from real devices have the shape and kind that their README tells."""
    source = read_series([SHARED / "dicom" / name])[0]
    stack = decode(source)
    assert (stack.pixels.shape, source.kind, stack.imaging) == (shape, kind, imaging)


def test_the_broken_modality_lut_of_a_real_run_is_told() -> None:
    """The angiography run whose Modality LUT contradicts its descriptor keeps its stored values, 0 to 255."""
    stack = decode(read_series([SHARED / "dicom" / "go-dicom" / "I_000000.dcm"])[0])
    assert any("Modality LUT" in warning for warning in stack.warnings)
    assert (stack.pixels.min(), stack.pixels.max()) == (0, 255)


def test_a_real_ct_series() -> None:
    """The contrast CT: 20 slices in Hounsfield units, air to bone, in order, with nothing left out."""
    paths = sorted((SHARED / "TotalSegmentator_ct" / "ct_series_fixed").glob("*.dcm"))
    source = read_series(paths)[0]
    stack = decode(source)
    assert stack.pixels.shape == (20, 512, 512)
    assert source.left_out == ()
    assert stack.pixels.min() == -1024
    assert 1000 < stack.pixels.max() < 3072
    heights = [float(dataset.ImagePositionPatient[2]) for dataset in source.datasets]
    assert heights == sorted(heights)
    assert stack.spacing_mm == pytest.approx((2.0, 0.9765625, 0.9765625))
