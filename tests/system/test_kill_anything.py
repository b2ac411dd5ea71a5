"""Nothing acknowledged is ever lost, whatever is killed, and every study ends in exactly one current result."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dicom_sources
import psutil
import pydicom
import pytest
from pydicom.dataset import Dataset
from running_site import RunningSite, running_site, site_settings
from steady_scu import SteadySender

from db import audit, register
from dicom_core.job import JobState
from dicom_core.spool import Spool

SEEDS = 20
STUDIES_PER_SEED = 2
KILLS_PER_SEED = 3
VICTIMS = ("listener", "dispatcher", "worker-segment", "worker-deliver", "redis", "child")

pytestmark = [
    pytest.mark.timeout(600),
    # the sender's pynetdicom forgets to close its socket when the listener is killed at that moment
    pytest.mark.filterwarnings("ignore:.*socket.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder = tmp_path_factory.mktemp("chaos")
    settings = site_settings(
        folder,
        worker={"maximum_attempts": 20},
        models={"faulty": {"seconds": 0.3}},  # long enough to be hit
    )
    with running_site(folder, settings) as running:
        yield running


def _kill(site: RunningSite, victim: str) -> bool:
    """Kill -9 of one process of the site; False when it is not there at this moment."""
    if victim == "child":
        workers = [child for child in site.site.children if child.name == "worker-segment" and child.process]
        pids = [
            process.pid
            for worker in workers
            if psutil.pid_exists(worker.process.pid)
            for process in psutil.Process(worker.process.pid).children(recursive=True)
        ]
    else:
        children = [child for child in site.site.children if child.name == victim]
        for child in children:
            child.pause_seconds = 0.1  # the twentieth death of a process is no reason to wait half a minute here
        pids = [child.process.pid for child in children if child.process and child.process.poll() is None]
    for pid in pids:
        try:
            psutil.Process(pid).kill()
        except psutil.NoSuchProcess:
            return False
    return bool(pids)


def _studies(seed: int) -> list[list[Dataset]]:
    makers = (
        lambda: dicom_sources.ct_series(frames=5, rows=24, columns=24),
        lambda: dicom_sources.xa_run(frames=3, rows=24, columns=24),
        lambda: dicom_sources.several_op(count=3, rows=24, columns=24),
    )
    return [makers[(seed + number) % len(makers)]() for number in range(STUDIES_PER_SEED)]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_kill_minus_nine_at_random_moments(site: RunningSite, seed: int) -> None:
    """Kill -9 of any process at random moments: all that got 0x0000 is stored, each study has one current SEG."""
    chance = random.Random(seed)
    studies = _studies(seed)
    senders = [SteadySender(site.port) for _ in studies]
    threads = [
        threading.Thread(target=sender.send, args=(study,)) for sender, study in zip(senders, studies, strict=True)
    ]
    for thread in threads:
        thread.start()
    killed = []
    while len(killed) < KILLS_PER_SEED:
        time.sleep(chance.uniform(0.1, 1.5))
        victim = chance.choice(VICTIMS)
        if _kill(site, victim):
            killed.append(victim)
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive(), f"the sender was never answered after killing {killed}"
    assert [len(sender.acknowledged) for sender in senders] == [len(study) for study in studies]
    uids = [str(study[0].StudyInstanceUID) for study in studies]
    site.wait_until_settled(*uids, seconds=90)
    _nothing_acknowledged_is_lost(site, senders)
    for study in studies:
        _one_current_result(site, study)
    assert audit.verify(site.record).first_bad_sequence is None


def _nothing_acknowledged_is_lost(site: RunningSite, senders: list[SteadySender]) -> None:
    spool = Spool(site.settings.spool_folder)
    stored = {uid: (path, fingerprint) for uid, path, fingerprint in register.recorded_files(site.record)}
    for sender in senders:
        for uid, fingerprint in sender.acknowledged.items():
            path, recorded = stored[uid]
            assert recorded == fingerprint
            spool.verify(path, fingerprint)


def _one_current_result(site: RunningSite, study: list[Dataset]) -> None:
    """The newest job of the one series is DONE and its object, over all instances, is the one at the destination."""
    uid = str(study[0].StudyInstanceUID)
    (job,) = site.jobs(uid)
    assert job.state is JobState.DONE, job.reason
    shelf = Path(site.settings.data_folder).parent / "shelf"
    at_destination = {path.stem: path for path in (shelf / uid).glob("*.dcm")}
    assert job.seg.sop_instance_uid in at_destination
    seg = pydicom.dcmread(at_destination[job.seg.sop_instance_uid])
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for series in seg.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert referenced == {str(dataset.SOPInstanceUID) for dataset in study}


def test_nothing_is_left_over(site: RunningSite) -> None:
    """After all the killing no unfinished file and no folder of a dead try is left."""
    site.wait_for(lambda: not list(Spool(site.settings.spool_folder).unfinished_paths()), 10)
    site.wait_for(lambda: not list((site.settings.results_folder / "tmp").iterdir()), 10)
