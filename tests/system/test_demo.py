"""`vesselq demo` as a user runs it, on a machine without Orthanc (the run with Orthanc is `make demo`)."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from loopback import wait_until

pytestmark = pytest.mark.timeout(400)
WITHOUT_ORTHANC = """
import sys
from console.demo import result_pacs, run
run.find_result_pacs = lambda folder, _logs: result_pacs.FolderPacs(folder)
sys.argv = ["vesselq", "demo", *sys.argv[1:]]
from console.cli import main
main()
"""


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    # one thread of arithmetic: on a busy machine the second one would mostly wait for the first, and use a core for it
    environment = {**os.environ, "VESSELQ_WORKER__THREADS": "1"}
    arguments = [sys.executable, "-c", WITHOUT_ORTHANC, "--data-folder", str(folder), *options]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder.parent
    )


def test_three_studies_come_back_as_segmentations(tmp_path: Path) -> None:
    """Three studies go in over DICOM, three valid segmentations lie in the result folder, the audit chain holds."""
    process = start(tmp_path / "data", "--json")
    out, err = process.communicate(timeout=350)
    assert process.returncode == 0, out + err
    assert out.count("\n") == 1
    answer = json.loads(out)
    assert answer["ok"] is True
    assert answer["audit"]["holds"] is True
    assert sorted(one["modality"] for one in answer["studies"]) == ["CT", "OP", "XA"]
    for one in answer["studies"]:
        assert one["state"] == "DONE"
        assert one["dice"] > 0.5
        assert Path(one["where"]).is_relative_to(tmp_path / "data" / "pacs")
        assert Path(one["where"]).name == f"{one['sop_instance_uid']}.dcm"
        assert Path(one["preview"]).read_bytes().startswith(b"\x89PNG")
        assert {"read", "decode", "segment", "encode", "validate"} <= set(one["seconds"])


def test_interrupted_demo_leaves_nothing_running(tmp_path: Path) -> None:
    """Ctrl-C in the middle ends all processes, with exit code 130 and without a trace."""
    process = start(tmp_path / "data")
    try:
        logs = tmp_path / "data" / "logs"
        wait_until((logs / "listener.log").exists, "the listener", timeout_seconds=120)
        everything = psutil.Process(process.pid).children(recursive=True)
        assert everything
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=90)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [one for one in everything if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
