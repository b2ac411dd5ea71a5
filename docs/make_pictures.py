"""Makes the pictures of the documentation from generated phantoms only: no patient was ever in front of a scanner.

The three studies of ``vesselq demo`` are generated, segmented by what the default rules name and drawn as previews, as
a worker does it.

    python docs/make_pictures.py
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from console.demo.studies import DemoStudy, demo_studies  # noqa: E402 - found through the path set above
from dicom_core.default_rules import DEFAULT_RULES  # noqa: E402
from dicom_core.errors import NotFoundError  # noqa: E402
from dicom_core.routing import first_match  # noqa: E402
from worker.pictures import preview_files  # noqa: E402
from worker.pictures.previews import write_previews  # noqa: E402
from worker.pixels.decoding import decode  # noqa: E402
from worker.segmenters import registry  # noqa: E402
from worker.segmenters.interface import Prompt  # noqa: E402
from worker.source_images.reading import read_series  # noqa: E402

PICTURE = DOCS / "pictures" / "results.png"
HEIGHT_PIXELS = 400
GAP_PIXELS = 8
_MOST_BYTES = 2**30


def main() -> None:
    """Write the picture of three results side by side."""
    with tempfile.TemporaryDirectory() as folder:
        previews = [_preview(study, Path(folder)) for study in demo_studies(Path(folder))]
    width = sum(preview.width for preview in previews) + GAP_PIXELS * (len(previews) - 1)
    picture = Image.new("RGB", (width, HEIGHT_PIXELS), "white")
    left = 0
    for preview in previews:
        picture.paste(preview, (left, 0))
        left += preview.width + GAP_PIXELS
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def _preview(study: DemoStudy, folder: Path) -> Image.Image:
    """The preview of one study, scaled to the common height."""
    source = read_series(study.paths)[0]
    stack = decode(source, maximum_bytes=_MOST_BYTES, threads=2)
    rule = first_match(DEFAULT_RULES, source.datasets[0])
    if rule is None:
        raise NotFoundError(f"no default rule wants {study.source}")
    found = registry.load(rule.segments_by, {}, "cpu").segment(stack, Prompt(), lambda _: None)
    write_previews(source, stack, found, folder)
    with Image.open(folder / preview_files.OVERLAY) as preview:
        width = round(preview.width * HEIGHT_PIXELS / preview.height)
        return preview.resize((width, HEIGHT_PIXELS), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
