"""Gathers what the network learns from in one file: ``python -m training.pack --manifest FILE --root DIR --out FILE``.

The file is a ZIP: ``index.json`` and, for each picture, a JPEG (grey, vessels as they come) and a PNG whose values say
what each pixel is (:class:`Truth`). Pictures are reduced to little more than the size at which the network looks.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from rich.console import Console
from rich.progress import Progress, TaskID
from scipy import ndimage

from dicom_core.errors import ConfigurationError, VesselqError
from training.manifest import Case, read_manifest
from training.synthetic.picture import Kind, SyntheticPicture
from training.synthetic.sampling import sample, sample_negative
from worker.image_stack import Imaging
from worker.segmenters.vesselnet.network import KINDS
from worker.segmenters.vesselnet.preparing import BRIGHT, WORKING_SIZES, field_of, intensity_of, working_shape

_SPARE = 1.05
"""Pictures are kept this much larger than the network's working size, so that zooming in still shows detail."""
_JPEG_QUALITY = 80
"""Training changes pictures more than this does, and a pack should be small enough to be carried to a GPU."""
_TWINS = frozenset({"ARCADE/train/images/214.png"})
"""Pictures that another entry shows too."""
_NOT_A_VESSEL_PICTURE = -1
_DRAWN: Mapping[Kind, tuple[Imaging, int]] = {
    "xa": (Imaging.XRAY_ANGIOGRAPHY, 416),
    "fundus": (Imaging.FUNDUS, 640),
    "octa": (Imaging.OCT_ANGIOGRAPHY, 352),
    "oct": (Imaging.FUNDUS, 352),
}
"""Drawn pictures: what the network is told that they are, and their size. Vessels are dark in en face OCT too."""
_FIRST_SEED = 1_000_000
"""Far from the seeds of the demo and of the synthetic test set."""
_CT_WINDOWS = ((-50.0, 450.0), (-160.0, 240.0), (-1000.0, 600.0))
_NEGATIVE_SHAPE = (384, 384)


class Truth(IntEnum):
    """What a pixel is."""

    BACKGROUND = 0
    VESSEL = 1
    UNSURE = 2
    """Left out of the loss: a vessel that observers may or may not draw."""
    OUTSIDE = 3
    """Not in the field of view."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a pack.

    Attributes:
        dataset: The set it belongs to.
        kind: Index in ``worker.segmenters.vesselnet.network.KINDS``; -1 for a picture of no such kind.
        fold: Pictures of one fold are held out together (of one subject, say).
        held_out: Never learnt from, whatever the fold.
        diameter: Of the field of view, in pixels of the kept picture.
    """

    dataset: str
    kind: int
    fold: int
    held_out: bool
    diameter: float


@dataclass(frozen=True, slots=True)
class Example:
    """A picture with the truth about it.

    Attributes:
        entry: What it is.
        intensity: ``(rows, columns)`` uint8.
        truth: ``(rows, columns)`` uint8, values of :class:`Truth`.
    """

    entry: Entry
    intensity: NDArray[np.uint8]
    truth: NDArray[np.uint8]


def write_pack(path: Path, examples: Iterator[Example]) -> int:
    """Write examples into one file and return how many."""
    entries = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as pack:
        for number, example in enumerate(examples):
            pack.writestr(f"{number}.jpg", _encoded(example.intensity, "JPEG", quality=_JPEG_QUALITY))
            pack.writestr(f"{number}.png", _encoded(example.truth, "PNG", optimize=True))
            entries.append(asdict(example.entry))
        pack.writestr("index.json", json.dumps(entries))
    return len(entries)


def read_pack(path: Path) -> tuple[Example, ...]:
    """Decode a whole pack into memory.

    Raises:
        ConfigurationError: The file is no pack.
    """
    try:
        with zipfile.ZipFile(path) as pack:
            entries = [Entry(**entry) for entry in json.loads(pack.read("index.json"))]
            return tuple(
                Example(entry, _decoded(pack.read(f"{n}.jpg")), _decoded(pack.read(f"{n}.png")))
                for n, entry in enumerate(entries)
            )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"{path} is no pack of training pictures; make one with training.pack") from error


def examples_of_manifest(manifest: Path, root: Path) -> Iterator[Example]:
    """Yield the pictures of a manifest that are of a kind the network knows.

    Raises:
        ConfigurationError: The file is no manifest.
    """
    held_out = {case.image for case in read_manifest(manifest, root, split="val").cases}
    for case in read_manifest(manifest, root).cases:
        if case.imaging in KINDS and str(case.image.relative_to(root)) not in _TWINS:
            yield _of_case(case, held_out=case.image in held_out)


def examples_drawn(count: int, first: int = 0, workers: int = 1) -> Iterator[Example]:
    """Yield ``count`` drawn pictures of each kind, and as many that show no vessels.

    Args:
        count: Of each kind.
        first: Number of the first, so that another pack holds other pictures.
        workers: Processes that draw; the pictures are the same for any number.
    """
    seeds = range(_FIRST_SEED + first, _FIRST_SEED + first + count)
    jobs = [(kind, seed) for kind in (*_DRAWN, None) for seed in seeds]
    if workers == 1:
        yield from map(_drawn, jobs)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_drawn, jobs, chunksize=4)


def _drawn(job: tuple[Kind | None, int]) -> Example:
    kind, seed = job
    if kind is None:
        return example_of_negative(sample_negative(seed, _NEGATIVE_SHAPE[0]).image)
    imaging, size = _DRAWN[kind]
    return example_of_synthetic(sample(kind, seed, size), imaging)


def example_of_synthetic(picture: SyntheticPicture, imaging: Imaging) -> Example:
    """Turn a drawn picture into an example; angiograms with bright vessels are turned over."""
    truth = np.where(picture.mask, Truth.VESSEL, Truth.BACKGROUND).astype(np.uint8)
    truth[picture.unsure] = Truth.UNSURE
    intensity = _grey(picture.image, imaging)
    if imaging not in BRIGHT and _is_bright(intensity, picture):
        intensity = 255 - intensity
    shown, diameter = field_of((intensity[None] / 255.0).astype(np.float32), imaging)
    truth[~shown | ~picture.field] = Truth.OUTSIDE
    kind = KINDS.index(imaging)
    return Example(Entry(f"synthetic-{picture.kind}", kind, 0, held_out=False, diameter=diameter), intensity, truth)


def example_of_negative(image: NDArray[np.uint8]) -> Example:
    """Turn a grey or RGB picture that shows no vessels of any kind into an example."""
    grey = _grey(image, Imaging.OTHER)
    entry = Entry("negative", _NOT_A_VESSEL_PICTURE, 0, held_out=False, diameter=float(min(grey.shape)))
    return Example(entry, grey, np.zeros_like(grey))


def examples_of_slices(folder: Path) -> Iterator[Example]:
    """Yield CT slices of a folder of DICOM files, in a few windows, as pictures that show no vessels of any kind."""
    for path in sorted(folder.glob("*.dcm")):
        dataset = dcmread(path)
        units = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        for low, high in _CT_WINDOWS:
            grey = np.clip((units - low) / (high - low), 0.0, 1.0).astype(np.float32)
            intensity = _resized(np.asarray(grey * 255, np.uint8), _NEGATIVE_SHAPE)
            entry = Entry("CT", _NOT_A_VESSEL_PICTURE, 0, held_out=False, diameter=float(_NEGATIVE_SHAPE[0]))
            yield Example(entry, intensity, np.zeros_like(intensity))


def _grey(image: NDArray[np.uint8], imaging: Imaging) -> NDArray[np.uint8]:
    pixels = image[None] if image.ndim == 3 else image[None].astype(np.float32)
    return np.asarray(intensity_of(pixels, imaging)[0] * 255 + 0.5, np.uint8)


def _is_bright(intensity: NDArray[np.uint8], picture: SyntheticPicture) -> bool:
    near = ndimage.binary_dilation(picture.mask, iterations=6) & ~picture.mask & picture.field
    if not near.any() or not picture.mask.any():
        return False
    return float(intensity[picture.mask].mean()) > float(intensity[near].mean())


def _of_case(case: Case, *, held_out: bool) -> Example:
    intensity = intensity_of(case.stack().pixels, case.imaging)
    shown, diameter = field_of(intensity, case.imaging)
    shape = working_shape(shown.shape, diameter, min(diameter, _SPARE * WORKING_SIZES[case.imaging]))
    truth = np.where(case.truth(shown.shape), 255, 0).astype(np.uint8)
    vessel = _resized(truth, shape) > 127
    seen = _resized(np.where(shown, 255, 0).astype(np.uint8), shape) > 127
    label = np.where(vessel, Truth.VESSEL, Truth.BACKGROUND).astype(np.uint8)
    if case.dataset == "OCTA_synth":
        label[vessel & ~_wide(vessel)] = Truth.UNSURE
    label[~seen & ~vessel] = Truth.OUTSIDE
    entry = Entry(
        case.dataset,
        KINDS.index(case.imaging),
        case.fold,
        held_out=held_out,
        diameter=diameter * shape[0] / shown.shape[0],
    )
    return Example(entry, _resized(np.asarray(intensity[0] * 255 + 0.5, np.uint8), shape), label)


def _wide(vessel: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the part of vessels four pixels wide or more: observers of real pictures draw no capillaries."""
    disc = np.hypot(*np.mgrid[-1.5:2, -1.5:2]) < 2
    return np.asarray(ndimage.binary_dilation(ndimage.binary_opening(vessel, disc), iterations=1) & vessel)


def _resized(picture: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    if picture.shape == shape:
        return picture
    return np.asarray(Image.fromarray(picture).resize(shape[::-1], Image.Resampling.BOX))


def _encoded(picture: NDArray[np.uint8], kind: str, **options: int | bool) -> bytes:
    with io.BytesIO() as buffer:
        Image.fromarray(picture).save(buffer, kind, **options)
        return buffer.getvalue()


def _decoded(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("L"))


def main(
    out: Annotated[Path, typer.Option(help="The pack to write.")],
    manifest: Annotated[Path | None, typer.Option(help="JSON list of images and masks.")] = None,
    root: Annotated[Path, typer.Option(help="Folder that the manifest's paths start from.")] = Path(),
    slices: Annotated[Path | None, typer.Option(help="Folder of CT slices (DICOM), which are not to be known.")] = None,
    drawn: Annotated[int, typer.Option(min=0, help="Drawn pictures of each kind.")] = 100,
    first: Annotated[int, typer.Option(min=0, help="Number of the first drawn one: another pack, other pictures.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 1,
) -> None:
    """Gather pictures for training in one file."""
    notes = Console(stderr=True)
    try:
        with Progress(console=notes) as progress:
            bar = progress.add_task("packing", total=None)
            examples = chain(
                examples_of_manifest(manifest, root) if manifest else (),
                examples_drawn(drawn, first, workers),
                examples_of_slices(slices) if slices else (),
            )
            count = write_pack(out, _counted(examples, progress, bar))
    except VesselqError as error:
        notes.print(str(error), style="red", markup=False)
        raise typer.Exit(error.exit_code) from error
    notes.print(f"{count} pictures, {out.stat().st_size / 2**20:.1f} MiB")


def _counted(examples: Iterator[Example], progress: Progress, bar: TaskID) -> Iterator[Example]:
    for example in examples:
        yield example
        progress.advance(bar)


if __name__ == "__main__":
    typer.run(main)
