"""RecommendedDisplayCIELabValue and back (PS3.3 C.10.7.1.1)."""

from collections.abc import Sequence

from highdicom.color import CIELabColor

from worker.result_header.catalogue import RGB


def cielab(colour: RGB) -> list[int]:
    """An sRGB colour, 0 to 255, as three numbers of 0 to 65535."""
    return list(CIELabColor.from_rgb(*colour).value)


def rgb(value: Sequence[int]) -> RGB:
    """Three numbers of 0 to 65535 as the nearest sRGB colour, 0 to 255."""
    red, green, blue = CIELabColor.from_dicom_value([int(number) for number in value]).to_rgb(clip=True)
    return red, green, blue
