"""A whole vesselq on free loopback ports in a temporary folder, and ways to wait for what it does."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from console.up import AllInOne
from db import reports
from db.session import Record
from dicom_core.job import FINISHED, Job
from dicom_core.settings import Settings
from dicom_core.study import StudyState

SUPPORT = Path(__file__).parent
AE_TITLE = "VESSELQ"
EVERYTHING = {"keyword": "SOPClassUID", "exists": True}


def site_settings(folder: Path, *, segmenter: str = "faulty", **tables: Any) -> Settings:
    """Quick timings, anybody on loopback may send, every series goes to one segmenter, results into a folder."""
    values: dict[str, Any] = {
        "data_folder": folder / "data",
        "listener": {
            "port": 0, "stable_after_seconds": 1, "low_water_bytes": 0, "critical_water_bytes": 0,
            "maximum_associations": 50, "maximum_associations_per_peer": 50,
        },
        "dispatcher": {"interval_seconds": 0.2, "ring_interval_seconds": 2},
        "worker": {"lease_seconds": 4, "retry_after_seconds": 0.2, "threads": 1, "deadline_seconds": 120},
        "web": {"port": 0},
        "peers": [{"name": name.lower(), "ae_title": name} for name in ("TESTER", "STORESCU", "ORTHANC")],
        "destinations": [{"name": "shelf", "kind": "folder", "path": folder / "shelf"}],
        "rules": [{"name": "all", "when": EVERYTHING, "segmenter": segmenter, "destinations": ["shelf"]}],
    }  # fmt: skip
    for name, table in tables.items():
        values[name] = {**values[name], **table} if isinstance(table, dict) and name in values else table
    return Settings(**values)


class RunningSite:
    """A started site.

    Attributes:
        site: Its processes.
        settings: With the real ports.
        record: For looking, and for acting as an operator.
    """

    def __init__(self, site: AllInOne) -> None:
        self.site = site
        self.settings = site.settings
        self.record = Record(self.settings.effective_database_url, process="test")

    @property
    def port(self) -> int:
        """Of the listener."""
        return self.settings.listener.port

    def is_settled(self, study_instance_uid: str) -> bool:
        """Whether the study is complete and none of its current jobs has anything left to do."""
        found = reports.studies(self.record, study_instance_uid=study_instance_uid)
        if not found or found[0].state != StudyState.COMPLETE:
            return False
        return all(job.state in FINISHED for job in reports.current_jobs(self.record, study_instance_uid))

    def wait_until_settled(self, *study_instance_uids: str, seconds: float = 60) -> None:
        """Wait until every one of the studies is settled."""
        self.wait_for(lambda: all(self.is_settled(uid) for uid in study_instance_uids), seconds)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something is so; the failure shows the jobs."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                lines = [
                    f"{job.study_instance_uid[-12:]} {job.state} {job.reason}" for job in reports.jobs(self.record)
                ]
                raise AssertionError("it did not happen in time; jobs:\n" + "\n".join(lines) + self.logs())
            time.sleep(0.1)

    def jobs(self, study_instance_uid: str) -> list[Job]:
        """The current jobs of a study."""
        return reports.current_jobs(self.record, study_instance_uid)

    def logs(self) -> str:
        """The ends of all log files."""
        folder = self.settings.data_folder.parent / "logs"
        return "".join(f"\n--- {path.name}\n{path.read_text()[-1500:]}" for path in sorted(folder.glob("*.log")))


@contextmanager
def running_site(folder: Path, settings: Settings) -> Iterator[RunningSite]:
    """Start a site, wait until it is ready, stop it at the end. Segmenters of the tests are found by its worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT.parents[1]), str(SUPPORT)]))
        with AllInOne(settings, log_folder=folder / "logs") as site:
            site.wait_ready()
            running = RunningSite(site)
            try:
                yield running
            finally:
                running.record.close()
