"""The UIDs and names of every object in a result set: derived, so that another try of the job gives the same."""

from dicom_core.chain import names_in
from dicom_core.identifiers import derived_uid
from dicom_core.prompt import Prompt
from dicom_core.result import ResultKind
from worker.result_header.identity import ResultIdentity
from worker.segmenters.interface import SegmenterInfo
from worker.series_messages import SeriesRequest

_KINDS_APART, _PARTS_APART = 100, 1000
"""In SeriesNumber: what belongs together stands together in the list of a viewer."""
_NOT_IN_OBJECTS = frozenset({"system", "folder", "weights", "accept_license"})
"""Settings that say where weights lie on this machine; the hash in the object says which they are."""


def identity_of(
    request: SeriesRequest, info: SegmenterInfo, kind: ResultKind = ResultKind.SEG, part: int = 1
) -> ResultIdentity:
    """Who the objects of one kind and part are: the same request and model give the same, another model gives others.

    Of a series of several objects it is the first; the others derive theirs from it.

    What else is in the result set plays no part, so that an object stays itself when a destination wants more. All
    objects of a part share the seed of the UIDs inside them: a vessel has one tracking UID in SEG and report.

    Args:
        request: What the child was asked for.
        info: Of the segmenter.
        kind: Each kind is a series of its own.
        part: Each part too.
    """
    prompt = Prompt.from_stored(request.prompt)
    scope = (*request.uid_scope, info.name, info.version, info.weights_sha256, request.prompt)
    of_part = () if part == 1 else ("part", part)
    of_kind = (*of_part, *(() if kind is ResultKind.SEG else ("kind", kind.value)))
    return ResultIdentity(
        series_instance_uid=derived_uid(*scope, "series", *of_kind),
        sop_instance_uid=derived_uid(*scope, "sop", *of_kind),
        created_at=request.created_at,
        generation=request.generation,
        series_number=request.series_number + _KINDS_APART * list(ResultKind).index(kind) + _PARTS_APART * (part - 1),
        device_uid=derived_uid("device", info.name, info.version, info.weights_sha256),
        model_name=info.name,
        model_version=info.version,
        weights_sha256=info.weights_sha256,
        parameters=_parameters(request),
        prompt=prompt.in_words(),
        software_version=request.software_version,
        uid_seed=derived_uid(*scope, "seed", *of_part),
        semiautomatic=prompt.by_hand,
    )


def _parameters(request: SeriesRequest) -> dict[str, str]:
    """The settings of the model as they stand in the object; in a chain with the name of whose they are."""
    alone = len(names_in(request.segmenter)) == 1
    return {
        key if alone else f"{name}.{key}": str(value)
        for name, table in sorted(request.segmenter_settings.items())
        for key, value in sorted(table.items())
        if key not in _NOT_IN_OBJECTS and (alone or name != request.segmenter)  # a chain tells its own itself
    }
