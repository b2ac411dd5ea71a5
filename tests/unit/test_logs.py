"""Log lines: JSON, bound to their process, without patient data. Each test logs in a process of its own."""

import json
import subprocess
import sys

import pytest

PATIENT = "Mustermann^Erika"


def _log(body: str, *, json_lines: bool = True) -> list[str]:
    program = "\n".join(
        (
            "import logging, threading",
            "from dicom_core.logs import configure_logs, get_logger",
            f"configure_logs('worker', 'INFO', json={json_lines})",
            "log = get_logger('test')",
            body,
        )
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_a_line_is_one_json_object():
    """Event, level, UTC time, process and the values given; line ends in values do not break the line."""
    (line,) = _log("log.info('job claimed', job_id='ab', reason='one\\ntwo')")
    found = json.loads(line)
    assert (found["event"], found["level"], found["process"], found["job_id"]) == (
        "job claimed",
        "info",
        "worker",
        "ab",
    )
    assert found["reason"] == "one\ntwo"
    assert found["timestamp"].endswith("Z")


def test_threads_are_bound_to_their_process_too():
    """The process stands in lines of every thread."""
    (line,) = _log("t = threading.Thread(target=lambda: log.info('x')); t.start(); t.join()")
    assert json.loads(line)["process"] == "worker"


def test_levels_are_held():
    """Ours from the level on; other libraries from WARNING on, in the same form."""
    lines = _log(
        "log.debug('no'); log.info('yes')\n"
        "logging.getLogger('celery').info('no'); logging.getLogger('celery').warning('w')"
    )
    assert [json.loads(line)["event"] for line in lines] == ["yes", "w"]


@pytest.mark.parametrize("library", ["pydicom", "pynetdicom", "pynetdicom.events", "highdicom"])
def test_libraries_that_print_element_values_are_silent(library):
    """What they say below CRITICAL can hold patient data."""
    assert _log(f"logging.getLogger('{library}').error('{PATIENT}')") == []


@pytest.mark.parametrize("json_lines", [True, False])
def test_tracebacks_hold_no_values(json_lines):
    """Where it happened, never the local variables, which are data sets."""
    lines = _log(
        f"def work(dataset):\n"
        f"    name = dataset['PatientName']\n"
        f"    raise ValueError('cannot be read')\n"
        f"try:\n"
        f"    work({{'PatientName': '{PATIENT[:4]}' + '{PATIENT[4:]}'}})\n"
        f"except ValueError:\n"
        f"    log.exception('failed')",
        json_lines=json_lines,
    )
    text = "\n".join(lines)
    assert "ValueError" in text
    assert PATIENT not in text
