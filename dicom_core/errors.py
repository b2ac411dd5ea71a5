"""The one tree that every error of vesselq is raised from.

::

    VesselqError
    ├── ConfigurationError            a setting, file or argument is wrong; the text says which and what to write
    ├── NotFoundError                 no such study, job, destination, segmenter or file
    ├── ConflictError                 the record does not allow that change now (for example: retry a running job)
    ├── UnavailableError         (r)  a service that is needed does not answer: Redis, database, peer
    ├── SpoolError               (r)  bytes could not be made durable
    │   ├── SpoolFullError       (r)  the low-water mark is reached or the disk is full
    │   └── SpoolDamagedError         a stored file is missing or its hash is wrong
    ├── IntakeError                   an object on the wire is refused; carries the DIMSE status
    ├── SourceError                   the series cannot be segmented; says why and names the instance
    │   ├── UnsupportedSourceError    a class, encoding or geometry that no code path takes
    │   ├── DamagedSourceError        header or pixel data cannot be read
    │   └── SourceTooLargeError       decoding would pass the limit that protects the worker
    ├── SegmentationError             a segmenter could not do its work
    │   ├── InvalidPromptError        the prompt does not fit the segmenter
    │   ├── InvalidSegmentationError  the SEG object failed its own validation
    │   ├── RunnerDiedError      (r)  the child process ended in the middle of a job
    │   ├── RunnerBusyError      (r)  memory or device is exhausted for now
    │   └── DeadlineError        (r)  the job ran longer than its deadline
    ├── AccessError                   who asks over the web gets no answer
    │   ├── NotSignedInError          nobody is signed in, or the session, password or token is not valid
    │   ├── NotAllowedError           who is signed in may not do that
    │   └── TooManyRequestsError (r)  more than the limit, or too many wrong passwords
    ├── LeaseLostError                another owner holds the job now: stop, write nothing
    ├── DeliveryError                 a destination did not take an object
    │   ├── TransientDeliveryError (r)
    │   └── PermanentDeliveryError
    └── AuditError                    the audit log cannot be written or does not verify

``(r)``: trying the same thing again later can help (``retryable`` is true).
"""

from typing import ClassVar


class VesselqError(Exception):
    """Base of the tree. ``str(error)`` is a sentence for the user without patient data.

    Attributes:
        retryable: Whether the same action can succeed later without any change.
        exit_code: What a command line program ends with when this error reaches it.
    """

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class ConfigurationError(VesselqError):
    """A setting, file or argument is wrong."""

    exit_code = 2


class NotFoundError(VesselqError):
    """No such study, job, destination, segmenter or file."""

    exit_code = 4


class ConflictError(VesselqError):
    """The record does not allow that change now."""

    exit_code = 5


class UnavailableError(VesselqError):
    """A service that is needed does not answer."""

    retryable = True
    exit_code = 3


class SpoolError(VesselqError):
    """Bytes could not be made durable."""

    retryable = True


class SpoolFullError(SpoolError):
    """The low-water mark is reached or the disk is full."""


class SpoolDamagedError(SpoolError):
    """A stored file is missing or its hash is wrong."""

    retryable = False


class IntakeError(VesselqError):
    """An object on the wire is refused.

    Attributes:
        status: The DIMSE status of the answer (PS3.4 B.2.3, PS3.7 annex C).
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class SourceError(VesselqError):
    """The series cannot be segmented."""


class UnsupportedSourceError(SourceError):
    """A class, encoding or geometry that no code path takes."""


class DamagedSourceError(SourceError):
    """Header or pixel data cannot be read."""


class SourceTooLargeError(SourceError):
    """Decoding would pass the limit that protects the worker."""


class SegmentationError(VesselqError):
    """A segmenter could not do its work."""


class InvalidPromptError(SegmentationError):
    """The prompt does not fit the segmenter."""


class InvalidSegmentationError(SegmentationError):
    """The SEG object failed its own validation."""


class RunnerDiedError(SegmentationError):
    """The child process ended in the middle of a job."""

    retryable = True


class RunnerBusyError(SegmentationError):
    """Memory or device is exhausted for now."""

    retryable = True


class DeadlineError(SegmentationError):
    """The job ran longer than its deadline."""

    retryable = True


class AccessError(VesselqError):
    """Who asks over the web gets no answer."""


class NotSignedInError(AccessError):
    """Nobody is signed in, or the session, password or token is not valid."""


class NotAllowedError(AccessError):
    """Who is signed in may not do that."""


class TooManyRequestsError(AccessError):
    """More requests than the limit.

    Attributes:
        seconds: After how long it is worth asking again.
    """

    retryable = True

    def __init__(self, message: str, *, seconds: int = 60) -> None:
        super().__init__(message)
        self.seconds = seconds


class LeaseLostError(VesselqError):
    """Another owner holds the job now."""


class DeliveryError(VesselqError):
    """A destination did not take an object.

    Attributes:
        status: What the destination answered: DIMSE status or HTTP status, None when there was no answer.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TransientDeliveryError(DeliveryError):
    """The destination may take the object later."""

    retryable = True


class PermanentDeliveryError(DeliveryError):
    """The destination will not take this object."""


class AuditError(VesselqError):
    """The audit log cannot be written or does not verify."""
