"""Every model system by a rule of its own, from C-STORE to a segmentation in a real PACS, on tiny weights.

One study holds a series for each system; the rules tell them apart by SeriesDescription. The weights are random, or
find what is narrow and dark, so the masks mean nothing. They are never empty all the same: thresholds of the networks
that learn are so low that a good part of every picture lies above them, and the chain keeps what its two segmenters
agree on, however little that is.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dicom_sources
import orthanc_server
import pydicom
import pytest
from orthanc_server import Orthanc
from pydicom.uid import generate_uid
from running_site import AE_TITLE, RunningSite, running_site, site_settings
from seg_checks import dciodvfy_messages
from tiny_models import tiny_table

from dicom_core.job import JobState
from dicom_listener.storage_scu import Receiver, find_dicom_files, send_files

STUDY = generate_uid(prefix=None)
LOW = 0.02
"""Random weights give probabilities around one half; above this there is always something."""
QUESTION = "Please segment the blood vessel."
BOX = {"left": 10, "top": 10, "right": 50, "bottom": 40}
RULES: dict[str, dict[str, Any]] = {
    "onnx": {"segmenter": "onnx"},
    "torchscript": {"segmenter": "torchscript"},
    "sam": {"segmenter": "sam", "prompt": {"boxes": [BOX]}},
    "chain": {"segmenter": "ridge", "chain": ["sam"]},
    "sam2": {"segmenter": "sam2", "prompt": {"boxes": [{**BOX, "frame_number": 1}]}},
    "sa2va": {"segmenter": "sa2va", "prompt": QUESTION},
}
MODELS = {"sa2va": {"threshold": LOW}, "sam": {"threshold": LOW}, "sam2": {"threshold": LOW}}
ALGORITHMS = {"onnx": "tiny", "torchscript": "tiny", "sam": "tiny-sam", "chain": "ridge+tiny-sam", "sam2": "tiny-sam2",
              "sa2va": "tiny-sa2va"}  # fmt: skip

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not orthanc_server.INSTALLED, reason=orthanc_server.NOT_INSTALLED),
]


@dataclass(frozen=True)
class Outcome:
    """What became of the study: the site that did it, the PACS that has it, and where it came from."""

    vesselq: RunningSite
    pacs: Orthanc
    series: dict[str, str]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """Run the whole study once."""
    folder = tmp_path_factory.mktemp("systems")
    models: dict[str, dict[str, Any]] = {
        system: {**tiny_table(system, folder / "models"), **MODELS.get(system, {})}
        for system in ("onnx", "torchscript", "sam", "sam2", "sa2va")
    }
    models["ridge+sam"] = {"agreement": 0.0}  # random weights agree with nobody
    with Orthanc(folder / "orthanc") as pacs:
        settings = site_settings(
            folder,
            models=models,
            destinations=[{"name": "web", "kind": "stow_rs", "url": pacs.dicomweb_url}],
            rules=[
                {
                    "name": name,
                    "when": {"keyword": "SeriesDescription", "equals": name},
                    "destinations": ["web"],
                    **rule,
                }
                for name, rule in RULES.items()
            ],
        )
        with running_site(folder, settings) as vesselq:
            series = _send(vesselq, folder)
            vesselq.wait_until_settled(STUDY, seconds=120)
            yield Outcome(vesselq, pacs, series)


def _send(vesselq: RunningSite, folder: Path) -> dict[str, str]:
    """Send a run of two frames for each rule; their SeriesInstanceUIDs by the name of the rule."""
    series = {}
    for name in RULES:
        (run,) = dicom_sources.xa_run(
            frames=2, rows=64, columns=72, StudyInstanceUID=STUDY, SeriesDescription=name,
            SeriesInstanceUID=generate_uid(prefix=None),
        )  # fmt: skip
        series[name] = str(run.SeriesInstanceUID)
        dicom_sources.save([run], folder / "source" / name)
    files, _ = find_dicom_files([folder / "source"])
    report = send_files(files, Receiver("127.0.0.1", vesselq.port, AE_TITLE, "TESTER", 30.0))
    assert report.sent == len(RULES)
    return series


@pytest.mark.parametrize("name", RULES)
def test_a_rule_runs_each_system(outcome: Outcome, name: str, tmp_path: Path) -> None:
    """The series of each rule ends as one SEG in the PACS that names its model, is valid, and is not empty."""
    (job,) = (job for job in outcome.vesselq.jobs(STUDY) if job.series_instance_uid == outcome.series[name])
    assert job.state is JobState.DONE, job.reason
    file = tmp_path / "seg.dcm"
    file.write_bytes(outcome.pacs.file(job.seg.sop_instance_uid))
    seg = pydicom.dcmread(file)
    (segment,) = seg.SegmentSequence
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == ALGORITHMS[name]
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert seg.pixel_array.any()
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == outcome.series[name]
    if shutil.which("dciodvfy"):
        assert [line for line in dciodvfy_messages(file) if line.startswith(("Error", "Warning"))] == []


def test_nothing_else_is_in_the_pacs(outcome: Outcome) -> None:
    """One segmentation for each series, and no other object."""
    found = outcome.pacs.qido(f"studies/{STUDY}/instances")
    assert len(found) == len(RULES)
    assert {instance["00080060"]["Value"][0] for instance in found} == {"SEG"}
