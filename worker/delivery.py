"""The story of one delivery: claim it, send the kept file, note the answer."""

import hashlib
from pathlib import Path

from db import deliveries
from dicom_core.errors import (
    ConfigurationError,
    DeliveryError,
    LeaseLostError,
    PermanentDeliveryError,
    TransientDeliveryError,
    UnavailableError,
)
from dicom_core.job import Delivery
from dicom_core.logs import get_logger
from worker.lease import Lease
from worker.services import Services

log = get_logger("delivery")


def run_next_delivery(services: Services) -> bool:
    """Claim the delivery that is due and try it once.

    Returns:
        Whether there was one.

    Raises:
        UnavailableError: The record does not answer; the delivery's lease will run out.
    """
    lease_seconds = services.settings.worker.lease_seconds
    delivery = deliveries.claim(services.record, services.owner, lease_seconds)
    if delivery is None:
        return False
    try:
        with Lease(lambda: deliveries.heartbeat(services.record, delivery, lease_seconds), lease_seconds):
            _send(services, delivery)
    except LeaseLostError as error:
        log.warning("delivery lost", delivery_id=delivery.delivery_id, reason=str(error))
    return True


def _send(services: Services, delivery: Delivery) -> None:
    try:
        result = delivery.result
        path = services.settings.results_folder / result.path
        _require_intact(path, result.sha256)
        answer = services.destination_of(delivery).send(
            path,
            sop_instance_uid=result.sop_instance_uid,
            study_instance_uid=delivery.study_instance_uid,
            series_instance_uid=result.series_instance_uid,
        )
    except (DeliveryError, ConfigurationError) as error:
        if error.retryable and services.stopping.is_set():
            # another worker tries at once; that this one had to stop must not count against the destination
            deliveries.hand_back(services.record, delivery)
            return
        _note_failure(services, delivery, str(error), retryable=error.retryable)
        return
    except (LeaseLostError, UnavailableError):
        raise
    except Exception as error:
        # the edge of one delivery: whatever a destination makes happen, its lane must not wait for the lease to run out
        log.exception("unexpected error of a destination", delivery_id=delivery.delivery_id)
        _note_failure(services, delivery, f"unexpected {type(error).__name__}", retryable=False)
        return
    deliveries.sent(services.record, delivery, answer)
    log.info("result sent", job_id=delivery.job_id, kind=result.kind, destination=delivery.destination, answer=answer)


def _note_failure(services: Services, delivery: Delivery, reason: str, *, retryable: bool) -> None:
    hours = services.give_up_after_hours(delivery)
    again = deliveries.failed(services.record, delivery, reason, retryable=retryable, give_up_after_hours=hours)
    log.warning("delivery failed", delivery_id=delivery.delivery_id, reason=reason, tried_again=again)


def _require_intact(path: Path, sha256: str) -> None:
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise PermanentDeliveryError("the kept result is no longer there") from error
    except OSError as error:
        raise TransientDeliveryError(f"the kept result cannot be read now: {error.strerror}") from error
    if actual != sha256:
        raise PermanentDeliveryError("the kept result is not what was built: the file has changed on the disk")
