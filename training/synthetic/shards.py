"""Many pictures in files: each shard is an ``.npz`` that holds pictures of one kind, in the order of their seeds."""

import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import ConfigurationError
from training.synthetic.picture import Kind, SyntheticPicture
from training.synthetic.sampling import sample, sample_negative

NEGATIVE = "negative"
_PLANES = ("mask", "centre_line", "unsure", "field")
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def picture(kind: str, seed: int, size: int) -> SyntheticPicture:
    """Generate one picture of any kind, negatives included.

    Raises:
        ConfigurationError: There is no such kind.
    """
    if kind == NEGATIVE:
        return sample_negative(seed, size)
    for known in get_args(Kind):
        if kind == known:
            return sample(known, seed, size)
    raise ConfigurationError(f"There is no kind {kind!r}; choose from {', '.join((*get_args(Kind), NEGATIVE))}")


def write_shards(
    folder: Path,
    kind: str,
    seeds: range,
    size: int,
    pictures_a_shard: int = 100,
    done: Callable[[], object] = lambda: None,
) -> tuple[Path, ...]:
    """Write pictures as ``KIND-FIRSTSEED.npz``; the same arguments give the same bytes.

    A shard holds ``image`` (pictures, rows, columns, 3) uint8 RGB, and ``mask``, ``centre_line``, ``unsure`` and
    ``field``, each (pictures, bytes): the planes packed to bits row by row (``numpy.unpackbits``).

    Args:
        folder: Made if it does not exist.
        kind: One of the kinds, or "negative".
        seeds: One picture each.
        size: Rows and columns.
        pictures_a_shard: The last shard may hold fewer.
        done: Called after each picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for first in range(0, len(seeds), pictures_a_shard):
        these = seeds[first : first + pictures_a_shard]
        made = []
        for seed in these:
            made.append(picture(kind, seed, size))
            done()
        written.append(folder / f"{kind}-{these[0]:07d}.npz")
        _write(written[-1], made)
    return tuple(written)


def read_shard(file: Path) -> Iterator[SyntheticPicture]:
    """Give back the pictures of a shard; grey pictures come as RGB."""
    with np.load(file, allow_pickle=False) as shard:
        arrays = {name: shard[name] for name in ("image", *_PLANES)}
    rows, columns = arrays["image"].shape[1:3]
    for index, image in enumerate(arrays["image"]):
        planes = [np.unpackbits(arrays[name][index], count=rows * columns).reshape(rows, columns) for name in _PLANES]
        mask, centre_line, unsure, field = (plane.astype(bool) for plane in planes)
        yield SyntheticPicture(image, mask, centre_line, unsure, field, file.stem.rpartition("-")[0])


def rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as ``(rows, columns, 3)``."""
    return image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)


def _write(file: Path, made: list[SyntheticPicture]) -> None:
    """Write the arrays as numpy's ``savez_compressed`` does, but with a fixed time in the archive."""
    arrays = {"image": np.stack([rgb(one.image) for one in made])}
    arrays |= {name: np.stack([np.packbits(getattr(one, name)) for one in made]) for name in _PLANES}
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            buffer = BytesIO()
            np.save(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", _LONG_AGO)
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, 1)
