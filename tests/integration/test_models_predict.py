"""`vesselq models predict` on the trial checkpoint of Sa2VA gives what the original computed."""

import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from console.cli import app

SHARED = Path(os.environ.get("VESSELQ_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
MODEL, GOLDEN = SHARED / "models" / "sa2va-tiny", SHARED / "models" / "golden"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not MODEL.is_dir(), reason="the trial checkpoint of the shared folder is not here"),
]


def test_predict_equals_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a PNG by the command line: vector and probability within 1e-5, no mask pixel differs, the same answer."""
    monkeypatch.chdir(tmp_path)
    name = "sa2va_image_384x640"
    words = ["--prompt", "Please segment the blood vessel.", "--dtype", "float32", "--device", "cpu", "--json"]
    result = CliRunner().invoke(
        app, ["models", "predict", str(MODEL), str(GOLDEN / f"{name}.png"), *words, "--out", "x.npz"]
    )
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "x.npz") as found, np.load(GOLDEN / f"{name}.npz") as golden:
        assert set(golden) <= set(found)
        assert {key: found[key].shape for key in golden} == {key: golden[key].shape for key in golden}
        assert str(found["answer"]) == str(golden["answer"])
        assert np.array_equal(found["mask"], golden["mask"])
        assert np.abs(found["probability"] - golden["probability"]).max() < 1e-5
        assert np.abs(found["seg_vector"] - golden["seg_vector"]).max() < 1e-5 * np.abs(golden["seg_vector"]).max()
