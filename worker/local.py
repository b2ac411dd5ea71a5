"""Segmenting a folder without queue, server or record: `vesselq segment`."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_core.chain import tables_of
from dicom_core.errors import NotFoundError, SpoolError, VesselqError
from dicom_core.prompt import Prompt
from dicom_core.result import DEFAULT_RESULTS, ResultKind
from dicom_core.routing import first_match, made_by_vesselq
from dicom_core.settings import Settings
from worker.pictures import preview_files
from worker.runner import Runner
from worker.segmenters.interface import Status
from worker.series_messages import SeriesRequest, SeriesResult
from worker.services import SOFTWARE_VERSION

_LOCAL_SCOPE = "local"
"""Takes the place of the site key in derived UIDs; the moment is part of them too, since it stands in the object."""
_ASK_THE_RULE = Prompt()
_WORDS = {Status.NO_MASK: "no vessel found", Status.OUT_OF_DOMAIN: "not a kind of image that the model knows"}


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What became of one series.

    Attributes:
        status: ``ok``, ``no vessel found``, ``skipped``, ``failed``, or that the model does not know the image.
        reason: Why, for every status but ``ok``.
        segmentation_path: The SEG object of the first part that has one.
        objects: All files by kind of result.
    """

    series_instance_uid: str
    modality: str
    segmenter: str
    status: str
    reason: str = ""
    segmentation_path: Path | None = None
    objects: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    preview_path: Path | None = None
    frames: int = 0
    frames_with_vessel: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    answer: str = ""


@dataclass(slots=True)
class _Series:
    header: Dataset
    paths: list[Path]


def segment_folder(
    settings: Settings,
    folder: Path,
    out: Path,
    *,
    segmenter: str = "",
    prompt: Prompt = _ASK_THE_RULE,
    results: Sequence[ResultKind] = DEFAULT_RESULTS,
    progress: Callable[[str, float], None],
) -> list[LocalResult]:
    """Segment every series below a folder.

    Args:
        settings: Rules, models and limits.
        folder: DICOM files, at any depth; other files are passed over. One file is fine too.
        out: Folder for ``<SeriesInstanceUID of the source>.seg.dcm``, ``.overlay.dcm`` and so on, and ``.png``; made if
            missing.
        segmenter: Used for all series, a name or a chain of names joined by ``+``; "" asks the rules.
        prompt: Instead of the rule's, unless it is empty.
        results: The kinds of object to make; the SEG object is always made.
        progress: Called with a stage's name and its finished share.

    Returns:
        One entry a series, in the order of their UIDs.

    Raises:
        NotFoundError: There is no DICOM file.
        SpoolError: ``out`` cannot be made or written to.
    """
    found = _series_below(folder)
    if not found:
        raise NotFoundError(f"{folder}: no DICOM files here")
    _make_writable(out)
    runner = Runner(settings.worker)
    try:
        return [
            _segment(settings, runner, uid, series, out, segmenter, prompt, results, progress)
            for uid, series in sorted(found.items())
        ]
    finally:
        runner.stop()


def _make_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise SpoolError(f"{out} is no folder that can be written to: {error.strerror}") from error


def _series_below(folder: Path) -> dict[str, _Series]:
    found: dict[str, _Series] = {}
    for path in _files(folder):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            uid = str(header.get("SeriesInstanceUID", ""))
        except (InvalidDicomError, OSError, ValueError, TypeError, KeyError, RecursionError):
            continue
        found.setdefault(uid, _Series(header, [])).paths.append(path)
    return found


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    for parent, _, names in sorted(os.walk(folder)):
        yield from (Path(parent) / name for name in sorted(names))


def _segment(
    settings: Settings,
    runner: Runner,
    uid: str,
    series: _Series,
    out: Path,
    segmenter: str,
    prompt: Prompt,
    results: Sequence[ResultKind],
    progress: Callable[[str, float], None],
) -> LocalResult:
    modality = str(series.header.get("Modality", ""))
    if made_by_vesselq(series.header):
        return LocalResult(uid, modality, "", "skipped", "made by vesselq itself")
    rule = None if segmenter else first_match(settings.rules, series.header)
    name = segmenter or (rule.segments_by if rule else "")
    if not name:
        reason = (
            rule.skip if rule else f"no rule wants it (Modality {modality or 'unknown'}); name one with --segmenter"
        )
        return LocalResult(uid, modality, "", "skipped", reason)
    created_at = datetime.now(UTC)
    with tempfile.TemporaryDirectory(dir=out, prefix=".segment-") as work:
        request = SeriesRequest(
            paths=tuple(path.resolve() for path in series.paths),
            segmenter=name,
            segmenter_settings=tables_of(name, settings.models),
            prompt=(rule.prompt if rule and prompt == _ASK_THE_RULE else prompt).stored(),
            device=settings.worker.device,
            threads=settings.worker.threads,
            decoded_limit_bytes=settings.worker.decoded_limit_bytes,
            uid_scope=(_LOCAL_SCOPE, str(series.header.get("StudyInstanceUID", "")), uid, created_at.isoformat()),
            created_at=created_at,
            series_number=settings.segmentation.series_number,
            software_version=SOFTWARE_VERSION,
            omit_empty_frames=settings.segmentation.omit_empty_frames,
            viewer_hints=settings.segmentation.viewer_hints,
            send_empty=settings.segmentation.send_empty,
            results=tuple(results),
            output_folder=Path(work).resolve(),
        )
        try:
            result = runner.run(request, progress=progress, interruption=lambda: None)
        except VesselqError as error:
            return LocalResult(uid, modality, name, "failed", str(error))
        return _collect(result, Path(work), out, uid, modality, name)


def _collect(result: SeriesResult, work: Path, out: Path, uid: str, modality: str, segmenter: str) -> LocalResult:
    summary = result.summary
    outcome = LocalResult(
        series_instance_uid=uid,
        modality=modality,
        segmenter=segmenter,
        status="ok",
        frames=int(summary.get("frames", 0)),
        frames_with_vessel=int(summary.get("frames_with_vessel", 0)),
        seconds=dict(summary.get("seconds", {})),
        warnings=tuple(summary.get("warnings", ())),
        answer=str(summary.get("answer", "")),
    )
    if result.status is not Status.OK:
        words = _WORDS[result.status]
        outcome = replace(outcome, status=words, reason=words)
    if not result.objects:
        return outcome
    objects: dict[str, tuple[Path, ...]] = {}
    for made in result.objects:
        path = out / f"{uid}.{made.path}"
        shutil.move(work / made.path, path)
        objects[made.kind.value] = (*objects.get(made.kind.value, ()), path)
    preview = out / f"{uid}.png"
    shutil.move(work / preview_files.OVERLAY, preview)
    first = objects[ResultKind.SEG.value][0]
    return replace(outcome, segmentation_path=first, objects=objects, preview_path=preview)
