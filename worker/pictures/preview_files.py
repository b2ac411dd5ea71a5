"""The fixed names of the preview pictures of a job, for those who write them and those who show them."""

OVERLAY = "preview.png"
"""The frame that shows most vessel, with the vessels over it, at the size that a screen shows."""
PLAIN = "preview_plain.png"
"""The same frame at the same size as it is."""
FRAMES = "preview_frames.jpg"
"""Frames of the run, or slices of the volume, that shows most vessel, with the vessels over them: JPEG pictures one
after the other (``frame_strip``)."""
FRAMES_PLAIN = "preview_frames_plain.jpg"
"""The same frames as they are."""
PROJECTIONS = "preview_projections.png"
"""The vessels of a volume from the front, the left and the feet."""
MONTAGE = "preview_montage.png"
"""Slices of a volume."""

MEDIA_TYPES = {
    OVERLAY: "image/png",
    PLAIN: "image/png",
    FRAMES: "image/jpeg",
    FRAMES_PLAIN: "image/jpeg",
    PROJECTIONS: "image/png",
    MONTAGE: "image/png",
}
"""Every name, in the order in which pages show them."""
