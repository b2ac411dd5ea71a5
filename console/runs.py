"""Having one series segmented again with a prompt that a person gives, from the command line or over the web."""

from db import studies
from db.session import Record
from dicom_core.chain import LONGEST_WORD, tables_of
from dicom_core.errors import ConfigurationError, InvalidPromptError, VesselqError
from dicom_core.job import Job
from dicom_core.prompt import Prompt
from dicom_core.settings import Settings
from dicom_core.spool import Spool
from worker.segmenters import registry


def run_again(
    settings: Settings,
    record: Record,
    study_instance_uid: str,
    series_instance_uid: str,
    prompt: Prompt,
    *,
    segmenter: str = "",
    by: str,
    address: str = "",
    reason: str = "",
) -> Job:
    """Open a new generation of a study with a job for one series; the same question is not asked twice.

    Args:
        settings: Rules and models.
        record: Where the job goes.
        study_instance_uid: Complete.
        series_instance_uid: Which series.
        prompt: What is asked, without files: those of this machine may not be there where the worker is.
        segmenter: A name or a chain of names joined by ``+``; "" for that of the rule.
        by: What the person uses: ``console``, ``web``.
        address: From where, for the audit log.
        reason: Why, for the audit log.

    Raises:
        NotFoundError: No such study, series or segmenter.
        ConflictError: The study is being received, the files are no longer kept, or they are results of vesselq itself.
        ConfigurationError: No segmenter is named and no rule names one, or it cannot be used as it is configured.
        InvalidPromptError: The segmenter cannot be asked that, or nothing is asked and no segmenter named.
    """
    from dicom_listener.job_requests import JobRequests  # with it comes pydicom, which pages that show do not need

    if prompt.mask is not None or prompt.example is not None:
        raise InvalidPromptError("a mask or an example in a file cannot be given here; `vesselq segment` takes a mask")
    if prompt.model_copy(update={"by_hand": False}) == Prompt() and not segmenter:
        raise InvalidPromptError("nothing is asked: give words, points, boxes or another segmenter")
    series = studies.series_to_run_again(record, study_instance_uid, series_instance_uid)
    request = JobRequests(settings, Spool(settings.spool_folder)).by_hand(series, prompt, segmenter)
    _check(settings, request.segmenter, prompt)
    return studies.run_again(record, series, request, by=by, address=address, reason=reason)


def _check(settings: Settings, word: str, prompt: Prompt) -> None:
    """Refuse at once what the worker would refuse later."""
    if len(word) > LONGEST_WORD:
        raise ConfigurationError(f"the names of the segmenters have more than {LONGEST_WORD} characters together")
    registry.check_settings(word, tables_of(word, settings.models))
    registry.info(word, settings.models).check_prompt(prompt)
    check_segments(prompt)


def check_segments(prompt: Prompt) -> None:
    """Refuse questions whose answer would be a segment of an unknown type.

    Raises:
        InvalidPromptError: The catalogue has no such type.
    """
    from worker.result_header.catalogue import vessel_type

    for question in prompt.questions:
        try:
            vessel_type(question.segment)
        except VesselqError as error:
            raise InvalidPromptError(f"{question.segment!r} is no type of segment. {error}") from None
