"""The guide for Orthanc, followed to the letter: what Orthanc receives comes back segmented, and once."""

import time
from collections.abc import Iterator
from pathlib import Path

import dicom_sources
import orthanc_server
import pytest
from doc_pages import DOCS, blocks
from orthanc_server import Orthanc
from running_site import EVERYTHING, RunningSite, running_site, site_settings

from dicom_core.job import JobState

GUIDE = DOCS / "how-to" / "wire-a-pacs.md"
STABLE_SECONDS = 1

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not orthanc_server.INSTALLED, reason=orthanc_server.NOT_INSTALLED),
]


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An Orthanc with the script of the guide."""
    (script,) = blocks(GUIDE, "lua")
    file = tmp_path / "send-to-vesselq.lua"
    file.write_text(script, encoding="utf-8")
    configuration = {"LuaScripts": [str(file)], "StableAge": STABLE_SECONDS}
    with Orthanc(tmp_path / "orthanc", configuration=configuration) as server:
        yield server


@pytest.fixture
def vesselq(tmp_path: Path, orthanc: Orthanc) -> Iterator[RunningSite]:
    """A vesselq that sends back to the sender, and whom Orthanc knows."""
    settings = site_settings(
        tmp_path,
        peers=[{"name": "pacs", "ae_title": orthanc.ae_title, "host": orthanc.host, "port": orthanc.dicom_port}],
        rules=[{"name": "all", "when": EVERYTHING, "segmenter": "faulty"}],
    )
    with running_site(tmp_path, settings) as site:
        orthanc.add_modality("vesselq", "VESSELQ", site.port)
        yield site


def test_what_orthanc_receives_comes_back_segmented(orthanc: Orthanc, vesselq: RunningSite, tmp_path: Path) -> None:
    """An uploaded study has one SEG beside it after a while, and the SEG does not start another round."""
    source = dicom_sources.xa_run(frames=3, rows=32, columns=40)
    study = str(source[0].StudyInstanceUID)
    for file in dicom_sources.save(source, tmp_path / "source"):
        orthanc.upload(file)
    vesselq.wait_for(lambda: len(orthanc.qido(f"studies/{study}/instances", Modality="SEG")) == 1, seconds=60)
    time.sleep(4 * STABLE_SECONDS)  # the SEG has become stable in Orthanc as well
    vesselq.wait_until_settled(study)
    (job,) = vesselq.jobs(study)
    assert (job.state, job.generation) == (JobState.DONE, 1)
    assert len(orthanc.qido(f"studies/{study}/instances")) == len(source) + 1
