"""A series of several runs, taken run by run: a segmenter that looks along time must not look across runs.

The runs of one study may show other vessels, in other directions, with the table moved; only the result is one object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dicom_core.errors import InvalidSegmentationError, SourceTooLargeError
from worker.image_stack import Arrangement
from worker.segmenters.interface import Segmentation, Status
from worker.source_series import SourceKind, SourceSeries

_BYTES_PER_PIXEL = 3
"""What is kept of every frame until the object is written: the mask and its probability (bool and float16)."""


def single_runs(source: SourceSeries, *, maximum_bytes: int) -> tuple[SourceSeries, ...]:
    """The series as a sequence of series that each hold one run or one still, in the same order.

    Args:
        source: Of any kind; what is not several runs comes back as it is.
        maximum_bytes: The most that the masks and probabilities of all runs may take.

    Raises:
        SourceTooLargeError: They would take more.
    """
    if source.kind is not SourceKind.RUN or len(source.datasets) == 1:
        return (source,)
    header = source.datasets[0]
    needed = len(source.frames) * int(header.Rows) * int(header.Columns) * _BYTES_PER_PIXEL
    if needed > maximum_bytes:
        raise SourceTooLargeError(
            f"The results of the {len(source.datasets)} runs of the series need {needed >> 20} MiB, the limit is "
            f"{maximum_bytes >> 20} MiB; send the runs in several series or raise the limit"
        )
    return tuple(_part(source, index) for index in range(len(source.datasets)))


def _part(source: SourceSeries, index: int) -> SourceSeries:
    uid = str(source.datasets[index].SOPInstanceUID)
    frames = tuple(frame for frame in source.frames if frame.sop_instance_uid == uid)
    return replace(
        source,
        kind=SourceKind.RUN if len(frames) > 1 else SourceKind.PICTURES,
        arrangement=Arrangement.RUN if len(frames) > 1 else Arrangement.FRAMES,
        datasets=source.datasets[index : index + 1],
        paths=source.paths[index : index + 1],
        frames=frames,
        left_out=(),
        warnings=(),
    )


def joined(parts: Sequence[Segmentation]) -> Segmentation:
    """One segmentation of all runs, its frames in the order of ``parts``.

    Settings that differ between runs are all named, seconds are added up, and the model knows the series when it knows
    one of its runs.

    Raises:
        InvalidSegmentationError: The parts have not the same classes.
    """
    if len(parts) == 1:
        return parts[0]
    if len({part.classes for part in parts}) > 1:
        raise InvalidSegmentationError("The segmenter gave other classes for one run of the series than for another.")
    statuses = {part.status for part in parts}
    return Segmentation(
        status=next(status for status in Status if status in statuses),
        mask=np.concatenate([part.mask for part in parts], axis=1),
        probability=np.concatenate([part.probability for part in parts], axis=1),
        classes=parts[0].classes,
        scores=tuple(score for part in parts for score in part.scores),
        parameters=joined_parameters([part.parameters for part in parts]),
        answer="\n".join(dict.fromkeys(part.answer for part in parts if part.answer)),
        seconds={
            name: sum(part.seconds.get(name, 0.0) for part in parts)
            for name in dict.fromkeys(name for part in parts for name in part.seconds)
        },
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
    )


def joined_parameters(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The settings of all parts; where they differ all values are named, ``-`` for a part that has none."""
    return {name: ", ".join(dict.fromkeys(part.get(name, "-") for part in parts)) for one in parts for name in one}
