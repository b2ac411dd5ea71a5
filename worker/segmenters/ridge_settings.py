"""The one fixed configuration of the ridge segmenter for each kind of picture, and why it is what it is.

Nothing here depends on a single image. Lengths in pictures are fractions of the field of view's diameter, so that a
camera with more pixels sees the same vessels; lengths in volumes are millimetres.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from worker.image_stack import Imaging


class Polarity(StrEnum):
    """Whether vessels are darker or brighter than what surrounds them."""

    DARK = "dark"
    BRIGHT = "bright"
    AUTO = "auto"
    """Whichever of the two gives clearly the stronger ridges; dark when they are about equal."""


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """How ridges are looked for in two dimensions.

    Attributes:
        polarity: Of the vessels.
        scales: Standard deviations of the Gaussians, as fractions of the diameter of the field of view.
        elongation: How many times longer than wide the Gaussians are; 1 is the plain Hessian of Sato and Frangi.
        logarithm: Whether the logarithm of the intensity is used: absorption becomes a sum, and a vessel has the same
            contrast in a dim corner as in the bright middle.
        background: Standard deviation of the local mean that is subtracted, as a fraction of the diameter.
        local_contrast: 0 divides by one contrast for the picture, larger values mix in the local contrast.
        scale_preference: Exponent by which wide ridges count more than narrow ones.
        ridge_threshold: Response that decides, in units of the picture's contrast.
        vessel_share: Share of the field of view that usually is vessel. The threshold is the geometric mean of
            ``ridge_threshold`` and the response that this share of the pixels passes, which holds up for both a busy
            picture and a dim one.
        seed_probability: A connected piece counts only if it reaches this probability somewhere (hysteresis).
        minimum_extent: Least size of a piece in pixels, as a fraction of the diameter; the square root of its area.
        window: Intensities are cut off here; None takes the range of the picture.
        collimated: Whether the leaves of a collimator may cover sides of the picture. Lengths then are fractions of the
            picture's shorter side: a collimator covers, it does not magnify.
        margin: Width of the border of the field of view that is ignored, as a fraction of the diameter.
    """

    polarity: Polarity
    scales: tuple[float, ...]
    elongation: float = 2.0
    logarithm: bool = False
    background: float = 0.05
    local_contrast: float = 0.0
    scale_preference: float = 0.0
    ridge_threshold: float = 0.5
    vessel_share: float = 0.1
    seed_probability: float = 0.7
    minimum_extent: float = 0.02
    margin: float = 0.0
    collimated: bool = False
    window: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class VolumeSettings:
    """How tubes are looked for in three dimensions.

    Attributes:
        scales_mm: Standard deviations of the Gaussians.
        window: Intensities are cut off here first; None takes percentiles of the volume.
        contrast: Intensity by which a tube of ideal shape must stand out for probability 0.5, in units of the window's
            width.
        lumen: Range in which a voxel of a vessel lies; None looks for no large vessels and accepts tubes of any
            intensity.
        bone: Above this, voxels are bone, metal or calcium; None suppresses nothing.
        seed_probability: As for pictures.
        minimum_volume_mm3: Least volume of a piece.
    """

    scales_mm: tuple[float, ...]
    window: tuple[float, float] | None
    contrast: float
    lumen: tuple[float, float] | None = None
    bone: float | None = None
    seed_probability: float = 0.7
    minimum_volume_mm3: float = 100.0


PICTURES: Mapping[Imaging, PictureSettings] = MappingProxyType(
    {
        # Coronary arteries are 2 to 5 mm wide in a field of some 150 mm. Bones, the diaphragm and the heart's border
        # stand out over wide areas, an artery in a narrow one: divide by the local contrast, and ask for long pieces.
        Imaging.XRAY_ANGIOGRAPHY: PictureSettings(
            Polarity.AUTO,
            scales=(0.0055, 0.008, 0.0115),
            logarithm=True,
            background=0.04,
            local_contrast=8.0,
            scale_preference=0.2,
            ridge_threshold=0.4,
            vessel_share=0.035,
            seed_probability=0.85,
            minimum_extent=0.08,
            margin=0.015,
            collimated=True,
        ),
        # Arterioles of 3 to 16 pixels in a field of 920. The logarithm evens out the fall of light towards the border.
        Imaging.FUNDUS: PictureSettings(
            Polarity.DARK,
            scales=(0.0017, 0.0025, 0.0037, 0.0052),
            elongation=3.0,
            logarithm=True,
            background=0.03,
            local_contrast=0.3,
            ridge_threshold=0.33,
            vessel_share=0.115,
            seed_probability=0.6,
            minimum_extent=0.012,
            margin=0.01,
        ),
        # Vessels of 3 to 10 pixels of 320; narrower ones are the capillary bed, which is texture and not marked.
        Imaging.OCT_ANGIOGRAPHY: PictureSettings(
            Polarity.BRIGHT,
            scales=(0.0045, 0.0065),
            elongation=1.5,
            background=0.08,
            ridge_threshold=0.48,
            vessel_share=0.115,
            seed_probability=0.65,
            minimum_extent=0.02,
        ),
        # Single slices without a place in a volume.
        Imaging.CT: PictureSettings(
            Polarity.BRIGHT, scales=(0.003, 0.005, 0.008), vessel_share=0.02, window=(-50.0, 450.0)
        ),
        Imaging.MR: PictureSettings(Polarity.BRIGHT, scales=(0.003, 0.005, 0.008), vessel_share=0.02),
        # Nobody measured these: cautious thresholds, and the result carries a warning.
        Imaging.ULTRASOUND: PictureSettings(Polarity.DARK, scales=(0.006, 0.01, 0.016), vessel_share=0.03),
        Imaging.OCT: PictureSettings(Polarity.AUTO, scales=(0.006, 0.01, 0.016), vessel_share=0.03),
        Imaging.OTHER: PictureSettings(Polarity.AUTO, scales=(0.004, 0.006, 0.01), vessel_share=0.05),
    }
)

VOLUMES: Mapping[Imaging, VolumeSettings] = MappingProxyType(
    {
        # Contrast-filled lumen is 130 (late phase) to 500 HU; below -50 is fat and air, whose borders
        # would look like tubes. Bone marrow has the Hounsfield units of lumen, but compact bone is near it.
        Imaging.CT: VolumeSettings(
            scales_mm=(1.0, 1.8, 3.2),
            window=(-50.0, 450.0),
            contrast=0.16,
            lumen=(130.0, 500.0),
            bone=500.0,
            minimum_volume_mm3=150.0,
        ),
        # No units: a tube must stand out by a quarter of the volume's range.
        Imaging.MR: VolumeSettings(scales_mm=(0.7, 1.3, 2.4), window=None, contrast=0.2),
    }
)
