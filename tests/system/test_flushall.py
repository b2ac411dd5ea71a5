"""Redis is a doorbell: emptying it in the middle of the work loses nothing."""

import dicom_sources
import pytest
import redis
from running_site import running_site, site_settings
from steady_scu import SteadySender

from dicom_core.job import JobState

RING_INTERVAL_SECONDS = 3.0
ALLOWED_SECONDS = 15.0

pytestmark = pytest.mark.timeout(180)


def test_flushall_in_the_middle(tmp_path_factory: pytest.TempPathFactory) -> None:
    """FLUSHALL while jobs wait and run: all of them finish within 15 s of the ring interval."""
    folder = tmp_path_factory.mktemp("flushall")
    settings = site_settings(
        folder,
        dispatcher={"interval_seconds": 0.2, "ring_interval_seconds": RING_INTERVAL_SECONDS},
        models={"faulty": {"seconds": 0.2}},
    )
    studies = [dicom_sources.xa_still(rows=24, columns=24) for _ in range(8)]
    uids = [str(study[0].StudyInstanceUID) for study in studies]
    with running_site(folder, settings) as site:
        for study in studies:
            SteadySender(site.port).send(study)
        site.wait_for(lambda: any(job.state is JobState.RUNNING for uid in uids for job in site.jobs(uid)))
        with redis.Redis.from_url(site.settings.redis_url) as client:
            client.flushall()
        finished = [job for uid in uids for job in site.jobs(uid) if job.state is JobState.DONE]
        assert len(finished) < len(uids), "everything was done before Redis was emptied: the test proves nothing"
        site.wait_until_settled(*uids, seconds=RING_INTERVAL_SECONDS + ALLOWED_SECONDS)
        assert [job.state for uid in uids for job in site.jobs(uid)] == [JobState.DONE] * len(uids)
