"""The fixed names of the preview pictures of a job, for those who write them and those who show them."""

OVERLAY = "preview.png"
"""The frame that shows most vessel, with the vessels over it, at the size that a screen shows."""
PLAIN = "preview_plain.png"
"""The same frame at the same size as it is."""
RUN = "preview_run.webp"
"""Animated: the run that shows most vessel, with the vessels over it."""
PROJECTIONS = "preview_projections.png"
"""The vessels of a volume from the front, the left and the feet."""
MONTAGE = "preview_montage.png"
"""Slices of a volume."""

MEDIA_TYPES = {
    OVERLAY: "image/png",
    PLAIN: "image/png",
    RUN: "image/webp",
    PROJECTIONS: "image/png",
    MONTAGE: "image/png",
}
"""Every name, in the order in which pages show them."""
