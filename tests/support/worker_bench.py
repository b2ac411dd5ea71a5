"""A worker's services over a fresh SQLite record, and a study that is ready to be segmented."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from db import migrate, processes, studies
from db.register import close_association, record_instances
from db.session import Record
from dicom_core.job import Job
from dicom_core.setting_tables import WorkerSettings
from dicom_core.settings import Settings
from dicom_core.spool import Spool
from dicom_core.study import Association, AssociationOutcome, ReceivedInstance
from dicom_listener.job_requests import JobRequests
from worker.runner import Runner
from worker.services import Services

SUPPORT = Path(__file__).parent
SENDER_AE = "MODALITY"
RULE = {"name": "all", "when": {"keyword": "SOPClassUID", "exists": True}, "segmenter": "faulty"}


def settings_for(folder: Path, *, model: dict[str, Any] | None = None, **tables: Any) -> Settings:
    """Settings with one rule that gives everything to the faulty segmenter, results into a folder."""
    values: dict[str, Any] = {
        "data_folder": folder,
        "rules": [{**RULE, "destinations": ["shelf"]}],
        "destinations": [{"name": "shelf", "kind": "folder", "path": folder / "shelf"}],
        "models": {"faulty": model or {}},
        "worker": {"lease_seconds": 4, "deadline_seconds": 60, "retry_after_seconds": 0},
    }
    return Settings(**{**values, **tables})


@contextmanager
def kept_runner() -> Iterator[Runner]:
    """A runner whose child finds the segmenters of the tests. A child takes seconds to start: tests share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT.parents[1]), str(SUPPORT)]))
        runner = Runner(WorkerSettings(deadline_seconds=60, threads=1))
        try:
            yield runner
        finally:
            runner.stop()


def services_with(runner: Runner, settings: Settings, record: Record) -> Services:
    """The services of one worker, with the runner that tests share."""
    services = Services(settings, record, processes.start(record, "worker", version="test", configuration={}))
    services.runner = runner
    return services


def close(services: Services) -> None:
    """End all connections; the child lives on."""
    services.runner = Runner(services.settings.worker)
    services.close()
    services.record.close()


def fresh_record(settings: Settings) -> Record:
    """A migrated record in the data folder."""
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    record = Record(settings.effective_database_url, process="test")
    migrate.upgrade(record)
    return record


def receive(settings: Settings, record: Record, datasets: Sequence[Dataset]) -> str:
    """Store datasets in the spool and record them as one released association would. Returns the StudyInstanceUID."""
    spool = Spool(settings.spool_folder)
    spool.prepare()
    process_id = processes.start(record, "listener", version="test", configuration={})
    association = Association(pydicom.uid.generate_uid()[-32:], process_id, SENDER_AE, "VESSELQ", "127.0.0.1")
    received = []
    for dataset in datasets:
        buffer = pydicom.filebase.DicomBytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        content = buffer.getvalue()
        group_length = int.from_bytes(content[140:144], "little")
        with spool.receive(content[132 : 144 + group_length]) as file:
            file.write(content[144 + group_length :])
            spooled = file.keep(dataset.SOPInstanceUID)
        spool.synchronise([spooled])
        received.append(
            ReceivedInstance(
                association=association,
                study_instance_uid=dataset.StudyInstanceUID,
                series_instance_uid=dataset.SeriesInstanceUID,
                sop_instance_uid=dataset.SOPInstanceUID,
                sop_class_uid=dataset.SOPClassUID,
                transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
                modality=dataset.Modality,
                **dataclasses.asdict(spooled),
            )
        )
    record_instances(record, received)
    close_association(record, association, AssociationOutcome.RELEASED)
    return str(datasets[0].StudyInstanceUID)


def complete(settings: Settings, record: Record) -> list[Job]:
    """Close every study that is being received and make its jobs."""
    requests = JobRequests(settings, Spool(settings.spool_folder))
    created = []
    for study in studies.quiet_studies(record, 0):
        created += studies.complete(record, study, requests.for_study(study))
    return created
