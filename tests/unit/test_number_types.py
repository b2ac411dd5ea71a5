"""What the setting `dtype` of the segmenters means."""

import pytest
import torch

from dicom_core.errors import ConfigurationError
from worker.segmenters.number_types import NUMBER_TYPES, chosen_number_type


@pytest.mark.parametrize("name", NUMBER_TYPES)
def test_a_name_is_that_of_torch_and_stays(name: str) -> None:
    """What is asked for is used on every device."""
    assert isinstance(getattr(torch, name), torch.dtype)
    assert chosen_number_type(name, "cpu") == chosen_number_type(name, "cuda:0") == name


def test_auto_is_exact_on_a_processor_and_short_on_a_graphics_card() -> None:
    """Which short type, the segmenter says."""
    assert chosen_number_type("auto", "cpu", "float16") == "float32"
    assert chosen_number_type("auto", "cuda:0") == "bfloat16"
    assert chosen_number_type("auto", "cuda:1", "float16") == "float16"


def test_another_word_is_refused() -> None:
    """The sentence names the setting and what there is."""
    with pytest.raises(ConfigurationError, match="`dtype` must be auto, float32, bfloat16, float16"):
        chosen_number_type("int8", "cpu")
