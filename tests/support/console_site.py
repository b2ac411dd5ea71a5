"""A data folder whose record tells of studies, jobs, results and failures: what the console commands look at.

::

    site = ConsoleSite(tmp_path / "data")
    job = site.study("1.2.3", series="1.2.3.1")      # received, complete, one job QUEUED
    site.finish(job)                                 # DONE, with result and preview
    site.close()
"""

import struct
import tempfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from db import audit, deliveries, jobs, migrate, register, studies
from db.audit import Event, Outcome
from db.session import Record
from dicom_core.job import Job, JobRequest, JobState, KeptResult
from dicom_core.result import ResultKind, ResultObject
from dicom_core.study import Association, AssociationOutcome, ReceivedInstance

PNG = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    for kind, body in (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\x00\x80")),
        (b"IEND", b""),
    )
)
"""The smallest grey picture."""


@cache
def _migrated_database() -> bytes:
    """An empty database of this release; making one takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vesselq.sqlite3"
        record = Record(f"sqlite:///{file}", process="test")
        migrate.upgrade(record)
        record.close()
        return file.read_bytes()


class ConsoleSite:
    """A migrated SQLite record in a data folder, with shortcuts for what processes would write.

    Attributes:
        folder: The data folder.
        record: Open until ``close``.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vesselq.sqlite3").write_bytes(_migrated_database())
        self.folder = folder
        self.record = Record(f"sqlite:///{folder / 'vesselq.sqlite3'}", process="test")

    def receive(self, study: str, *, series: str = "", modality: str = "XA", ae_title: str = "ANGIO1") -> None:
        """One instance arrives; the study is RECEIVING."""
        association = Association(f"{abs(hash((study, series))):032x}"[:32], "0" * 32, ae_title, "VESSELQ", "192.0.2.1")
        instance = ReceivedInstance(
            association=association,
            study_instance_uid=study,
            series_instance_uid=series or f"{study}.1",
            sop_instance_uid=f"{series or study}.9",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.12.1",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            modality=modality,
            fingerprint="a" * 64,
            size_bytes=1000,
            path=f"instances/aa/{study}.dcm",
        )
        register.record_instances(self.record, [instance])
        register.close_association(self.record, association, AssociationOutcome.RELEASED)

    def study(
        self,
        study: str,
        *,
        series: str = "",
        state: JobState = JobState.QUEUED,
        reason: str = "",
        segmenter: str = "ridge",
    ) -> Job:
        """A study that was received and is complete, with one job."""
        series = series or f"{study}.1"
        self.receive(study, series=series)
        quiet = next(one for one in studies.quiet_studies(self.record, 0.0) if one.study_instance_uid == study)
        request = JobRequest(
            series_instance_uid=series,
            modality="XA",
            state=state,
            reason=reason,
            rule="xray-angiography",
            segmenter=segmenter,
            prompt="",
            destinations=("pacs",),
            priority=0,
            input_hash="b" * 64,
            configuration_hash="c" * 64,
        )
        return studies.complete(self.record, quiet, [request])[0]

    def claim(self, job: Job) -> Job:
        """The job is RUNNING."""
        claimed = jobs.claim(self.record, "worker0", 60)
        assert claimed is not None
        assert claimed.job_id == job.job_id, "another job was more urgent"
        return claimed

    def finish(self, job: Job, *, preview_path: str | None = None, more_previews: Sequence[str] = ()) -> None:
        """The job is DONE, its result kept and sent.

        Args:
            job: Queued.
            preview_path: What the record says of the first preview, if not where it is.
            more_previews: Names of pictures beside the first one.
        """
        claimed = self.claim(job)
        name = f"{job.job_id[:2]}/{job.job_id}"
        results = self.folder / "results" / name
        results.mkdir(parents=True)
        for picture in ("preview.png", *more_previews):
            (results / picture).write_bytes(PNG)
        summary = {"seconds": {"segment": 1.5}, "preview_path": preview_path or f"{name}/preview.png", "warnings": []}
        segmentation = ResultObject(
            ResultKind.SEG, 1, f"{name}/seg.dcm", "d" * 64, "1.2.840.10008.5.1.4.1.1.66.4", "2.25.1", "2.25.2", 1234
        )
        jobs.keep_result(self.record, claimed, KeptResult((segmentation,), summary))
        delivery = deliveries.claim(self.record, "worker0", 60)
        assert delivery is not None
        deliveries.sent(self.record, delivery, "0x0000 stored")

    def fail(self, job: Job, reason: str = "the pixel data of instance 1.2.3.9 ends early") -> None:
        """The job is FAILED."""
        claimed = self.claim(job)
        jobs.fail_attempt(self.record, claimed, reason, retryable=False, maximum_attempts=3, retry_after_seconds=0)

    def refuse_association(self, ae_title: str) -> None:
        """The listener refused somebody."""
        audit.record_event(
            self.record,
            Event.ASSOCIATION_REFUSED,
            outcome=Outcome.MINOR_FAILURE,
            ae_title=ae_title,
            address="192.0.2.9",
        )

    def close(self) -> None:
        """Let the record go."""
        self.record.close()
