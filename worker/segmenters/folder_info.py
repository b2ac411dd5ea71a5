"""What is known of a system with the model of one folder in it."""

from dataclasses import replace

from worker.model_folder.opening import ModelFolder
from worker.segmenters.interface import SegmentClass, SegmenterInfo


def info_of(model: ModelFolder, system: SegmenterInfo) -> SegmenterInfo:
    """What the manifest says, and where it is silent, what the system says of itself."""
    manifest = model.manifest
    classes = tuple(SegmentClass(one.key, one.label) for one in manifest.classes)
    return replace(
        system,
        name=manifest.name,
        version=manifest.version,
        summary=manifest.summary or system.summary,
        imagings=frozenset(manifest.imagings) or system.imagings,
        arrangements=frozenset(manifest.arrangements) or system.arrangements,
        classes=classes or system.classes,
        weights_sha256=manifest.digest,
        license=manifest.license,
    )
