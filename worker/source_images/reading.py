"""From the files of one series to what belongs together: kind, order, and what is left out with the reason."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from dicom_core.errors import DamagedSourceError, UnsupportedSourceError
from dicom_core.identifiers import is_uid
from worker.image_stack import Arrangement, FrameIdentity
from worker.source_images.choosing import LeftOut, chosen_images, sequence
from worker.source_images.damage import damage_named, pydicom_silenced
from worker.source_images.functional_groups import functional_group
from worker.source_images.headers import SourceHeader, read_headers
from worker.source_images.imaging_kind import imaging_of
from worker.source_images.phases import over_time
from worker.source_images.planes import frame_plane, slice_plane
from worker.source_images.slice_geometry import OTHER_AT_PLACE, Volumes, arrange
from worker.source_series import SourceKind, SourceSeries

_NO_SPACING = "no usable pixel spacing: the images are taken one by one, not as a volume"
MOST_PARTS = 200
"""Each part becomes an object of its own in the archive; a 4D series has a few dozen."""


def read_series(paths: Sequence[Path]) -> tuple[SourceSeries, ...]:
    """Read the headers of one series and choose, sort and clean what belongs together.

    Volumes at the same places (cardiac phases, time points, echoes) are a part each, and so are several
    multi-frame instances, placed in the patient or not. Single pictures without a place stay together.

    Args:
        paths: All files of one series, in any order.

    Returns:
        The parts, at least one, in an order that does not depend on that of the files. ``frames`` are in the order of
        the stack. In a volume that order is spatial, along the slice normal, also for an enhanced object: the frame's
        place in the object is ``FrameIdentity.frame_number``, and frames of another orientation or another part are
        missing from ``frames``. Direction cosines that differ by rounding only are made equal in ``datasets``.

    Raises:
        UnsupportedSourceError: There is no image in it, or only of a class that is no source, or it has absurdly many
            parts.
        DamagedSourceError: An instance cannot be read, lacks necessary UIDs, or a slice has no place among the others.
            A damaged instance is never left out in silence: the whole series is refused, in words that name it.
    """
    headers = read_headers(paths)
    if not headers:
        raise UnsupportedSourceError("The series has no files")
    if len({header.text("SeriesInstanceUID") for header in headers}) > 1:
        raise UnsupportedSourceError("The files belong to several series; give the files of one")
    with pydicom_silenced():
        left_out: LeftOut = []
        parts = _parts(chosen_images(headers, left_out), left_out)
    if len(parts) > MOST_PARTS:
        raise UnsupportedSourceError(
            f"The series falls into {len(parts)} parts (runs, or volumes at the same places), and a result has "
            f"{MOST_PARTS} at most; send the wanted ones as series of their own"
        )
    return tuple(
        replace(part, part=number, parts=len(parts), left_out=tuple(left_out)) for number, part in enumerate(parts, 1)
    )


def _parts(images: Sequence[SourceHeader], left_out: LeftOut) -> list[SourceSeries]:
    placements = {header: _placement(header) for header in images}
    longest = max(images, key=lambda header: (header.number_of_frames, placements[header] is _Placement.FRAMES))
    if placements[longest] is _Placement.FRAMES:
        return _placed_frames_series(images, placements, left_out)
    if longest.number_of_frames == 1 and _Placement.SLICE in placements.values():
        return _slice_series(images, left_out)
    return _unplaced_series(images, left_out)


class _Placement(StrEnum):
    """What tells where the pixels of an instance lie in the patient."""

    FRAMES = "frames"
    """Functional groups: Plane Position and Plane Orientation (PS3.3 C.7.6.16.2.3)."""
    SLICE = "slice"
    """The Image Plane module (PS3.3 C.7.6.2)."""
    NOTHING = "nothing"


def _placement(header: SourceHeader) -> _Placement:
    with damage_named(header.name):
        frame_of_reference = header.text("FrameOfReferenceUID")
        if not frame_of_reference:
            return _Placement.NOTHING
        if not is_uid(frame_of_reference):
            raise DamagedSourceError("FrameOfReferenceUID is no valid UID; repair the object at its source")
        planes = (functional_group(header.dataset, 1, f"Plane{word}Sequence") for word in ("Position", "Orientation"))
        if all(planes):
            return _Placement.FRAMES
        if header.numbers("ImageOrientationPatient", 6) and header.numbers("ImagePositionPatient", 3):
            return _Placement.SLICE
        return _Placement.NOTHING


# --- multi-frame with a place for each frame --------------------------------------------------------------------------


def _placed_frames_series(
    images: Sequence[SourceHeader], placements: Mapping[SourceHeader, _Placement], left_out: LeftOut
) -> list[SourceSeries]:
    """Every such instance is a volume, or several; one whose frames have no place is left out."""
    others = [header for header in images if placements[header] is not _Placement.FRAMES]
    left_out += [(header.uid, "its frames have no place in the patient, unlike the others'") for header in others]
    told = (f"{len(others)} images without a place in the patient are not segmented",) if others else ()
    taken = sorted((header for header in images if header not in others), key=sequence)
    parts = []
    for number, header in enumerate(taken, 1):
        label = f"volume {number} of {len(taken)}" if len(taken) > 1 else ""
        with damage_named(header.name):
            parts += _parts_of_instance(header, label, told)
    return parts


def _parts_of_instance(header: SourceHeader, label: str, told: tuple[str, ...]) -> list[SourceSeries]:
    described = len(header.dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if described != header.number_of_frames:
        raise DamagedSourceError(f"NumberOfFrames is {header.number_of_frames}, but {described} frames are described")
    found = arrange([frame_plane(header, number) for number in range(1, described + 1)])
    whole = SourceSeries(
        kind=SourceKind.RUN,
        arrangement=_arrangement_at_one_place(found),
        imaging=imaging_of(header.dataset),
        datasets=(header.dataset,),
        paths=(header.path,),
        frames=tuple(FrameIdentity(header.uid, number) for number in range(1, described + 1)),
        warnings=(*told, *_spacing_warning(found)),
        part_label=label,
    )
    # Placed frames are volumes, unless all lie at one place (cine) or most have no parallel (radial OCT scans).
    in_parallel = described - sum(reason != OTHER_AT_PLACE for reason in found.left_out.values())
    if found.at_one_place or not found.pixel_spacing or 2 * in_parallel < described:
        return [whole]
    return [
        replace(
            whole,
            kind=SourceKind.ENHANCED,
            arrangement=Arrangement.VOLUME,
            frames=tuple(whole.frames[index] for index in volume.order),
            warnings=(*told, *found.warnings, *volume.warnings),
            part_label=", ".join(filter(None, (label, volume.label))),
        )
        for volume in found.volumes
    ]


# --- slices -----------------------------------------------------------------------------------------------------------


def _slice_series(headers: Sequence[SourceHeader], left_out: LeftOut) -> list[SourceSeries]:
    in_sequence = sorted(headers, key=sequence)
    planes = []
    for header in in_sequence:
        with damage_named(header.name):
            planes.append(slice_plane(header))
    with damage_named(f"Series {headers[0].text('SeriesInstanceUID')}"):
        found = arrange(planes)
    left_out += [(in_sequence[index].uid, reason) for index, reason in sorted(found.left_out.items())]
    if found.at_one_place or not found.pixel_spacing:
        return [_pictures(found, in_sequence)]
    parts = []
    for volume in found.volumes:
        taken = [in_sequence[index] for index in volume.order]
        _snap_orientation(taken, found.orientation)
        part = _single_frames(taken, SourceKind.SLICES, Arrangement.VOLUME)
        parts.append(replace(part, warnings=(*found.warnings, *volume.warnings), part_label=volume.label))
    return parts


def _pictures(found: Volumes, headers: Sequence[SourceHeader]) -> SourceSeries:
    """One slice over time (or at several echoes) is no volume, nor are slices whose size nobody knows."""
    taken = [headers[index] for volume in found.volumes for index in volume.order]
    part = _single_frames(taken, SourceKind.PICTURES, _arrangement_at_one_place(found))
    return replace(part, warnings=(*found.warnings, *_spacing_warning(found)))


def _arrangement_at_one_place(found: Volumes) -> Arrangement:
    moving = found.at_one_place and over_time(found.volumes[0].label)
    return Arrangement.RUN if moving else Arrangement.FRAMES


def _spacing_warning(found: Volumes) -> tuple[str, ...]:
    return () if found.pixel_spacing else (_NO_SPACING,)


def _single_frames(taken: Sequence[SourceHeader], kind: SourceKind, arrangement: Arrangement) -> SourceSeries:
    return SourceSeries(
        kind=kind,
        arrangement=arrangement,
        imaging=imaging_of(taken[0].dataset),
        datasets=tuple(header.dataset for header in taken),
        paths=tuple(header.path for header in taken),
        frames=tuple(FrameIdentity(header.uid, 1) for header in taken),
    )


def _snap_orientation(headers: Sequence[SourceHeader], orientation: tuple[float, ...]) -> None:
    """Give all slices the same direction cosines: rounding noise makes parallel slices look oblique to libraries."""
    for header in headers:
        if header.numbers("ImageOrientationPatient", 6) != orientation:
            header.dataset.ImageOrientationPatient = list(orientation)


# --- runs and pictures ------------------------------------------------------------------------------------------------


def _unplaced_series(images: Sequence[SourceHeader], left_out: LeftOut) -> list[SourceSeries]:
    """Every run is a part of its own, and all stills together are one, at the place of the first of them.

    Runs of one series may show other vessels in other directions, and viewers show of a segmentation that refers to
    several multi-frame instances what belongs to the first (seen in OHIF 3.13).
    """
    in_sequence = sorted(images, key=sequence)
    stills = [header for header in in_sequence if header.number_of_frames == 1]
    runs = [header for header in in_sequence if header.number_of_frames > 1]
    parts: list[SourceSeries] = []
    for header in in_sequence:
        if header in runs:
            label = f"run {runs.index(header) + 1} of {len(runs)}" if len(runs) > 1 else "run"
            parts.append(_unplaced_part(SourceKind.RUN, Arrangement.RUN, [header], label))
        elif header is stills[0]:
            parts.append(_stills(stills, left_out))
    return parts if len(parts) > 1 else [replace(parts[0], part_label="")]


def _stills(headers: Sequence[SourceHeader], left_out: LeftOut) -> SourceSeries:
    """Pictures of one size: that of most of them, the first of equals."""
    sizes = [_size(header) for header in headers]
    size = Counter(sizes).most_common(1)[0][0]
    taken = [header for header in headers if _size(header) == size]
    others = [header for header in headers if _size(header) != size]
    left_out += [(header.uid, "another size or kind of colour than most of the series") for header in others]
    warnings = (f"{len(others)} images of another size or kind of colour are not segmented",) if others else ()
    label = "still" if len(taken) == 1 else "stills"
    return replace(_unplaced_part(SourceKind.PICTURES, Arrangement.FRAMES, taken, label), warnings=warnings)


def _unplaced_part(
    kind: SourceKind, arrangement: Arrangement, headers: Sequence[SourceHeader], label: str
) -> SourceSeries:
    return SourceSeries(
        kind=kind,
        arrangement=arrangement,
        imaging=imaging_of(headers[0].dataset),
        datasets=tuple(header.dataset for header in headers),
        paths=tuple(header.path for header in headers),
        frames=tuple(
            FrameIdentity(header.uid, number) for header in headers for number in range(1, header.number_of_frames + 1)
        ),
        part_label=label,
    )


def _size(header: SourceHeader) -> tuple[int, int, bool]:
    colourful = header.text("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2")
    return header.rows, header.columns, colourful
