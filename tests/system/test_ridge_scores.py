"""The ridge segmenter reaches its goals on public images that are not part of the project.

Every second image of CHASE_DB1 (7) and of the validation split of ARCADE (20), every fifth of ROSSA (20); all of them
are scored by ``python -m training.score``.
"""

import os
from pathlib import Path

import pytest

from training.manifest import read_manifest
from training.measures import summarise
from training.score import score
from worker.segmenters import registry

SHARED = Path(os.environ.get("VESSELQ_SHARED", Path(__file__).parents[3] / "shared"))
DATA = SHARED / "data"


@pytest.mark.skipif(not (DATA / "MANIFEST.json").is_file(), reason="the folder of public images is not here")
@pytest.mark.parametrize(
    ("dataset", "split", "step", "goal"),
    [("ROSSA", "train", 5, 0.76), ("CHASE_DB1", "train", 2, 0.60), ("ARCADE", "val", 2, 0.38)],
)
def test_mean_dice_reaches_the_goal(dataset: str, split: str, step: int, goal: float) -> None:
    """With one fixed configuration for each kind of picture the mean Dice is at least the goal."""
    cases = read_manifest(DATA / "MANIFEST.json", DATA, dataset=dataset, split=split).cases[::step]
    assert len(cases) >= 7
    scored = score(cases, registry.load("ridge", {}, "cpu"))
    assert summarise([one.agreement for one in scored])["dice"].mean >= goal
