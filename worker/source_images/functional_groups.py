"""Reading the functional groups of an enhanced multi-frame object (PS3.3 C.7.6.16)."""

from pydicom.dataset import Dataset


def functional_group(dataset: Dataset, frame_number: int, keyword: str) -> Dataset | None:
    """The macro that holds for one frame.

    Args:
        dataset: Header of a multi-frame instance; any other has no functional groups.
        frame_number: 1-based.
        keyword: Keyword of the macro's sequence, for example ``PlanePositionSequence``.

    Returns:
        The item of the frame's own sequence, else the shared one, None when neither has it.
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    own = list(per_frame[frame_number - 1 : frame_number])
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    for groups in own + shared:
        items = groups.get(keyword)
        if items:
            found: Dataset = items[0]
            return found
    return None
