"""Source series, masks and identities for tests of the SEG writer, without the reader of source files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dicom_sources
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from worker.image_stack import Arrangement, FrameIdentity, Imaging
from worker.result_header.identity import ResultIdentity
from worker.segmenters.interface import BLOOD_VESSEL, Segmentation, SegmentClass, Status
from worker.source_series import SourceKind, SourceSeries

ARTERY_AND_VEIN = (SegmentClass("artery", "Artery"), SegmentClass("vein", "Vein"))

_ARRANGEMENTS = {
    SourceKind.SLICES: Arrangement.VOLUME,
    SourceKind.ENHANCED: Arrangement.VOLUME,
    SourceKind.RUN: Arrangement.RUN,
    SourceKind.PICTURES: Arrangement.FRAMES,
}


@dataclass(frozen=True)
class SourceCase:
    """One class of source.

    Attributes:
        build: Makes the datasets; takes DICOM keywords.
        kind: How its SEG is built.
        imaging: The kind of picture.
    """

    build: Callable[..., list[Dataset]]
    kind: SourceKind
    imaging: Imaging

    def series(self, **attributes: object) -> SourceSeries:
        """A fresh series of this class."""
        return as_series(self.build(**attributes), self.kind, self.imaging)


def _tilted_with_gap(**attributes: object) -> list[Dataset]:
    return dicom_sources.ct_series(tilt_degrees=15, missing=(3,), **attributes)


def _op_16bit(**attributes: object) -> list[Dataset]:
    return dicom_sources.op_grey(bits=16, **attributes)


def _sc_colour(**attributes: object) -> list[Dataset]:
    return dicom_sources.sc(colour=True, **attributes)


def _odd_columns(**attributes: object) -> list[Dataset]:
    return dicom_sources.xa_run(rows=33, columns=37, **attributes)


def _second_run(**attributes: object) -> list[Dataset]:
    return dicom_sources.xa_runs(**attributes)[1:2]


def _odd_ct(**attributes: object) -> list[Dataset]:
    return dicom_sources.ct_series(rows=33, columns=37, **attributes)


CASES: dict[str, SourceCase] = {
    "ct": SourceCase(dicom_sources.ct_series, SourceKind.SLICES, Imaging.CT),
    "ct_tilted_with_gap": SourceCase(_tilted_with_gap, SourceKind.SLICES, Imaging.CT),
    "ct_odd_columns": SourceCase(_odd_ct, SourceKind.SLICES, Imaging.CT),
    "mr": SourceCase(dicom_sources.mr_series, SourceKind.SLICES, Imaging.MR),
    "enhanced_ct": SourceCase(dicom_sources.enhanced_ct, SourceKind.ENHANCED, Imaging.CT),
    "enhanced_mr": SourceCase(dicom_sources.enhanced_mr, SourceKind.ENHANCED, Imaging.MR),
    "opt_with_frame_of_reference": SourceCase(
        dicom_sources.opt_with_frame_of_reference, SourceKind.ENHANCED, Imaging.OCT
    ),
    "xa_run": SourceCase(dicom_sources.xa_run, SourceKind.RUN, Imaging.XRAY_ANGIOGRAPHY),
    "xa_run_odd_columns": SourceCase(_odd_columns, SourceKind.RUN, Imaging.XRAY_ANGIOGRAPHY),
    "xa_run_of_several": SourceCase(_second_run, SourceKind.RUN, Imaging.XRAY_ANGIOGRAPHY),
    "xrf_run": SourceCase(dicom_sources.xrf_run, SourceKind.RUN, Imaging.XRAY_ANGIOGRAPHY),
    "us_run": SourceCase(dicom_sources.us_run, SourceKind.RUN, Imaging.ULTRASOUND),
    "sc_multiframe": SourceCase(dicom_sources.sc_multiframe, SourceKind.RUN, Imaging.OTHER),
    "opt_without": SourceCase(dicom_sources.opt_without, SourceKind.RUN, Imaging.OCT),
    "xa_still": SourceCase(dicom_sources.xa_still, SourceKind.PICTURES, Imaging.XRAY_ANGIOGRAPHY),
    "op_rgb": SourceCase(dicom_sources.op_rgb, SourceKind.PICTURES, Imaging.FUNDUS),
    "op_grey_8bit": SourceCase(dicom_sources.op_grey, SourceKind.PICTURES, Imaging.FUNDUS),
    "op_grey_16bit": SourceCase(_op_16bit, SourceKind.PICTURES, Imaging.FUNDUS),
    "several_op": SourceCase(dicom_sources.several_op, SourceKind.PICTURES, Imaging.FUNDUS),
    "opt_en_face": SourceCase(dicom_sources.opt_en_face, SourceKind.PICTURES, Imaging.OCT_ANGIOGRAPHY),
    "sc": SourceCase(dicom_sources.sc, SourceKind.PICTURES, Imaging.OTHER),
    "sc_colour": SourceCase(_sc_colour, SourceKind.PICTURES, Imaging.OTHER),
    "dx": SourceCase(dicom_sources.dx, SourceKind.PICTURES, Imaging.OTHER),
    "cr": SourceCase(dicom_sources.cr, SourceKind.PICTURES, Imaging.OTHER),
}
"""Every class of source by name."""


def as_series(datasets: Sequence[Dataset], kind: SourceKind, imaging: Imaging) -> SourceSeries:
    """What the reader makes of these datasets: frames in the given order, every frame of a multi-frame instance."""
    frames = tuple(
        FrameIdentity(str(dataset.SOPInstanceUID), number)
        for dataset in datasets
        for number in range(1, int(dataset.get("NumberOfFrames") or 1) + 1)
    )
    paths = tuple(Path(f"{number}.dcm") for number in range(len(datasets)))
    return SourceSeries(kind, _ARRANGEMENTS[kind], imaging, tuple(datasets), paths, frames)


def mask_for(source: SourceSeries, classes: int = 1, *, empty_first_frame: bool = True) -> NDArray[np.bool_]:
    """``(classes, frames, rows, columns)`` bool: the generated tubes, shifted a little for every further class.

    With more than one frame the first is empty, so that omitting empty frames matters; classes overlap in part.
    """
    header = source.datasets[0]
    tubes = dicom_sources.vessel_mask(len(source.frames), int(header.Rows), int(header.Columns))
    mask = np.stack([np.roll(tubes, shift, axis=-1) for shift in range(classes)])
    mask[..., -1, -1] = True  # the very last bit of the object
    if empty_first_frame and len(source.frames) > 1:
        mask[:, 0] = False
    return mask


def segmentation_of(
    mask: NDArray[np.bool_], classes: Sequence[SegmentClass] | None = None, status: Status = Status.OK
) -> Segmentation:
    """A segmenter's answer with this mask."""
    chosen = tuple(classes) if classes else (BLOOD_VESSEL, *ARTERY_AND_VEIN)[: len(mask)]
    return Segmentation(
        status=status,
        mask=mask,
        probability=mask.astype(np.float16),
        classes=chosen,
        parameters={"threshold": "0.5"},
    )


IDENTITY = ResultIdentity(
    series_instance_uid="2.25.1001",
    sop_instance_uid="2.25.1002",
    created_at=datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=8))),
    generation=1,
    series_number=901,
    device_uid="2.25.1003",
    model_name="ridge",
    model_version="1.0",
    software_version="0.1.0",
    uid_seed="test",
)
"""A filter without weights."""

IDENTITY_WITH_WEIGHTS = replace(
    IDENTITY, model_name="vesselnet", weights_sha256="0123456789abcdef" * 4, prompt="coronary arteries", generation=2
)
