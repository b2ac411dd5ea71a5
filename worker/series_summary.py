"""The facts of a segmented series for the record and the operator: JSON-ready, UIDs but no patient data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from dicom_core.prompt import Prompt
from dicom_core.result import ResultObject
from worker.result_set import MadeSet
from worker.segmenters.interface import Segmentation, SegmenterInfo
from worker.source_series import SourceSeries

LONGEST_ANSWER = 2000
"""Characters of what a language model said that are kept."""


@dataclass(frozen=True, slots=True)
class PartSummary:
    """What is kept of one part when its objects are written.

    Attributes:
        source: Headers.
        found: The segmenter's answer, its arrays without frames.
        objects: What was made, nothing where nothing was found.
        measurements: What the report says, empty without one.
        frames_with_vessel: How many.
        voxels: Of all classes.
        warnings: For the reader.
    """

    source: SourceSeries
    found: Segmentation
    objects: tuple[ResultObject, ...]
    measurements: Mapping[str, Any]
    frames_with_vessel: int
    voxels: int
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, source: SourceSeries, found: Segmentation, made: MadeSet, warnings: Sequence[str]) -> Self:
        """The summary of one part."""
        return cls(
            source=source,
            found=replace(found, mask=found.mask[:, :0].copy(), probability=found.probability[:, :0].copy()),
            objects=made.objects,
            measurements=made.measurements,
            frames_with_vessel=int(found.mask.any(axis=(0, 2, 3)).sum()),
            voxels=int(found.mask.sum()),
            warnings=tuple(warnings),
        )


def series_summary(
    parts: Sequence[PartSummary], info: SegmenterInfo, asked: Prompt, seconds: Mapping[str, float]
) -> dict[str, Any]:
    """Numbers added up over the parts; size and kind of the first, which all others share or nearly so."""
    first = parts[0]
    rows, columns = first.found.mask.shape[2:]
    left_out = dict.fromkeys(entry for part in parts for entry in part.source.left_out)
    return {
        "model": info.name,
        "model_version": info.version,
        "weights_sha256": info.weights_sha256,
        "prompt": asked.in_words(),
        "semiautomatic": asked.by_hand,
        "source_kind": first.source.kind.value,
        "imaging": first.source.imaging.value,
        "frames": sum(len(part.source.frames) for part in parts),
        "rows": int(rows),
        "columns": int(columns),
        "frames_with_vessel": sum(part.frames_with_vessel for part in parts),
        "voxels": sum(part.voxels for part in parts),
        "instances_used": sum(len(part.source.datasets) for part in parts),
        "left_out": [{"sop_instance_uid": uid, "reason": reason} for uid, reason in left_out],
        "warnings": list(dict.fromkeys(warning for part in parts for warning in part.warnings)),
        "parameters": _joined_parameters([part.found.parameters for part in parts]),
        "answer": _answer(parts),
        "parts": [_part(part) for part in parts] if len(parts) > 1 else [],
        "measurements": [{"part": part.source.part, **part.measurements} for part in parts if part.measurements],
        "seconds": dict(seconds),
    }


def _answer(parts: Sequence[PartSummary]) -> str:
    """What a language model said, as far as it can be kept: databases refuse some characters."""
    said = "\n".join(dict.fromkeys(part.found.answer for part in parts if part.found.answer))
    printed = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in said)
    return printed if len(printed) <= LONGEST_ANSWER else f"{printed[: LONGEST_ANSWER - 3]}..."


def _part(part: PartSummary) -> dict[str, Any]:
    return {
        "part": part.source.part,
        "label": part.source.part_label,
        "status": part.found.status.value,
        "frames": len(part.source.frames),
        "frames_with_vessel": part.frames_with_vessel,
    }


def _joined_parameters(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The settings of all parts; where they differ all values are named, ``-`` for a part that has none."""
    return {name: ", ".join(dict.fromkeys(part.get(name, "-") for part in parts)) for one in parts for name in one}
