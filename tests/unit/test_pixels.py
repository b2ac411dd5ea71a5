"""Decoding: every transfer syntax exactly, every photometric interpretation, and damage that ends in words."""

import struct
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dicom_sources
import imagecodecs
import numpy as np
import openjpeg
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.pixels.processing import convert_color_space

from dicom_core.errors import DamagedSourceError, SourceError, SourceTooLargeError, UnsupportedSourceError
from worker.image_stack import Arrangement, ImageStack
from worker.pixels.decoding import decode
from worker.pixels.grey_levels import BROKEN_MODALITY_LUT, BROKEN_RESCALE
from worker.source_images.damage import damage_named
from worker.source_images.reading import read_series

Array = NDArray[Any]
ROWS, COLUMNS = 37, 46


def noise(bits: int, *, signed: bool = False, samples: int = 1, frames: int = 0) -> Array:
    """Random stored values that use all of ``bits``."""
    shape = (*((frames,) if frames else ()), ROWS, COLUMNS, *((samples,) if samples > 1 else ()))
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2 if bits <= 16 else 4}"
    values = np.random.default_rng(bits).integers(low, high, shape).astype(kind)
    values.flat[0], values.flat[-1] = low, high - 1
    return values


def smooth(bits: int, samples: int = 1) -> Array:
    """A picture that lossy codecs change little."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS] / max(ROWS, COLUMNS)
    planes = [(0.2 + 0.6 * ramp) * ((1 << bits) - 1) for ramp in (y, x, y * x)]
    picture = np.stack(planes[:samples], -1) if samples > 1 else planes[0]
    return picture.astype(np.uint8 if bits <= 8 else np.uint16)


def picture(
    data: bytes,
    *,
    bits: int = 8,
    samples: int = 1,
    syntax: str = uid.ExplicitVRLittleEndian,
    frames: int = 1,
    **attributes: object,
) -> Dataset:
    """A secondary capture around any pixel data; ``attributes`` are set last, ``None`` removes."""
    dataset = (dicom_sources.sc if frames == 1 else dicom_sources.sc_multiframe)(WindowCenter=None, WindowWidth=None)[0]
    allocated = bits if bits == 1 else 8 if bits <= 8 else 16 if bits <= 16 else 32
    values: dict[str, object] = {
        "Rows": ROWS,
        "Columns": COLUMNS,
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "MONOCHROME2" if samples == 1 else "RGB",
        "PlanarConfiguration": None if samples == 1 else 0,
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "NumberOfFrames": None if frames == 1 else frames,
        **attributes,
    }
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        values.setdefault(keyword, None)
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if allocated <= 8 or uid.UID(syntax).is_encapsulated else "OW"
    if uid.UID(syntax).is_encapsulated:
        dataset["PixelData"].is_undefined_length = True
    return dataset


def stack(datasets: Sequence[Dataset] | Dataset, folder: Path, **options: int) -> ImageStack:
    """Save, read and decode."""
    datasets = [datasets] if isinstance(datasets, Dataset) else datasets
    if datasets[0].file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian:
        folder.mkdir(exist_ok=True)
        datasets[0].save_as(folder / "0001.dcm", implicit_vr=False, little_endian=False)
        return decode(read_series([folder / "0001.dcm"])[0], **options)
    return decode(read_series(dicom_sources.save(datasets, folder))[0], **options)


# --- transfer syntaxes ------------------------------------------------------------------------------------------------


def encode_rle(values: Array) -> bytes:
    """The RLE encoder of pydicom."""
    samples = 1 if values.ndim == 2 else 3
    return RLELosslessEncoder.encode(
        values,
        rows=values.shape[0],
        columns=values.shape[1],
        samples_per_pixel=samples,
        number_of_frames=1,
        bits_allocated=values.dtype.itemsize * 8,
        bits_stored=values.dtype.itemsize * 8,
        pixel_representation=int(values.dtype.kind == "i"),
        photometric_interpretation="MONOCHROME2" if samples == 1 else "RGB",
        planar_configuration=0,
    )


def encode_jpeg_lossless(predictor: int) -> Callable[[Array], bytes]:
    def encode(values: Array) -> bytes:
        bits = 8 * values.dtype.itemsize
        unsigned = values.view(f"u{values.dtype.itemsize}")
        return bytes(imagecodecs.jpeg8_encode(unsigned, lossless=True, predictor=predictor, bitspersample=bits))

    return encode


def encode_jpeg_ls(values: Array) -> bytes:
    return bytes(imagecodecs.jpegls_encode(values.view(f"u{values.dtype.itemsize}")))


def encode_jpeg_2000(values: Array) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", reversible=True))


def encode_jpeg_2000_elsewhere(values: Array) -> bytes:
    return bytes(openjpeg.encode(values))


def encode_high_throughput(values: Array) -> bytes:
    return bytes(imagecodecs.htj2k_encode(values, level=0))


LOSSLESS = [
    (uid.JPEGLossless, encode_jpeg_lossless(1)),
    (uid.JPEGLossless, encode_jpeg_lossless(7)),
    (uid.JPEGLosslessSV1, encode_jpeg_lossless(1)),
    (uid.JPEGLSLossless, encode_jpeg_ls),
    (uid.JPEGLSNearLossless, encode_jpeg_ls),
    (uid.JPEG2000Lossless, encode_jpeg_2000),
    (uid.JPEG2000, encode_jpeg_2000),
    (uid.JPEG2000Lossless, encode_jpeg_2000_elsewhere),
    (uid.HTJ2KLossless, encode_high_throughput),
    (uid.HTJ2KLosslessRPCL, encode_high_throughput),
    (uid.HTJ2K, encode_high_throughput),
    (uid.RLELossless, encode_rle),
]


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (16, False), (16, True)])
@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_encoded_grey_round_trips(
    syntax: str, encode: Callable[[Array], bytes], bits: int, signed: bool, tmp_path: Path
) -> None:
    """Grey values of 8 and 16 bits, signed and not, come back exactly from every lossless encoding."""
    values = noise(bits, signed=signed)
    dataset = picture(encapsulate([encode(values)]), bits=bits, syntax=syntax, PixelRepresentation=int(signed))
    decoded = stack(dataset, tmp_path).pixels
    assert decoded.dtype == np.float32
    assert np.array_equal(decoded[0], values)


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_encoded_rgb_round_trips(syntax: str, encode: Callable[[Array], bytes], tmp_path: Path) -> None:
    """RGB comes back exactly from every lossless encoding, interleaved and of eight bits."""
    values = noise(8, samples=3)
    decoded = stack(picture(encapsulate([encode(values)]), samples=3, syntax=syntax), tmp_path).pixels
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded[0], values)


@pytest.mark.parametrize(
    ("bits", "signed"), [(8, False), (12, False), (16, False), (12, True), (16, True), (32, False)]
)
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_native_grey_round_trips(syntax: str, bits: int, signed: bool, tmp_path: Path) -> None:
    """Native grey values come back exactly in all three native transfer syntaxes."""
    values = noise(bits, signed=signed)
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    dataset = picture(data, bits=bits, syntax=syntax, PixelRepresentation=int(signed))
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], values.astype(np.float32))


def test_bytes_in_big_endian_words_are_swapped_back(tmp_path: Path) -> None:
    """Eight bit pixels in big endian OW lie swapped in their words (PS3.5 8.1.1)."""
    values = noise(8)
    swapped = values.reshape(-1, 2)[:, ::-1].tobytes()
    dataset = picture(swapped, syntax=uid.ExplicitVRBigEndian)
    dataset["PixelData"].VR = "OW"
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], values)


@pytest.mark.parametrize(("syntax", "bits"), [(uid.JPEGBaseline8Bit, 8), (uid.JPEGExtended12Bit, 12)])
def test_lossy_jpeg_grey_is_near(syntax: str, bits: int, tmp_path: Path) -> None:
    """JPEG baseline and 12 bit extended give back a smooth picture within one percent."""
    values = smooth(bits)
    frame = bytes(imagecodecs.jpeg8_encode(values, level=98, bitspersample=bits))
    decoded = stack(picture(encapsulate([frame]), bits=bits, syntax=syntax), tmp_path).pixels[0]
    assert np.abs(decoded - values).max() <= 0.01 * (1 << bits)


@pytest.mark.parametrize(
    ("syntax", "encoder"), [(uid.JPEG2000, imagecodecs.jpeg2k_encode), (uid.HTJ2K, imagecodecs.htj2k_encode)]
)
def test_two_decoders_agree(syntax: str, encoder: Callable[..., bytes], tmp_path: Path) -> None:
    """What we decode from a lossy wavelet stream is what openjpeg decodes, within one grey value."""
    frame = bytes(encoder(smooth(16), level=50, reversible=False))
    decoded = stack(picture(encapsulate([frame]), bits=16, syntax=syntax), tmp_path).pixels[0]
    reference = openjpeg.decode(frame[frame.index(b"\xff\x4f\xff\x51") :])
    assert np.abs(decoded - reference).max() <= 1


@pytest.mark.parametrize("syntax", [uid.MPEG2MPML, uid.MPEG4HP41, uid.HEVCMP51, uid.JPIPHTJ2KReferenced])
def test_other_transfer_syntaxes_are_refused(syntax: str, tmp_path: Path) -> None:
    """Video and referenced pixels are refused in words that name the transfer syntax and the instance."""
    dataset = picture(encapsulate([b"\0\0\1\xb3" + bytes(100)]), syntax=syntax)
    with pytest.raises(UnsupportedSourceError, match=f"{dataset.SOPInstanceUID}.*not taken"):
        stack(dataset, tmp_path)


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", ["basic", "none", "extended"])
def test_frames_are_found_among_fragments(table: str, fragments: int, tmp_path: Path) -> None:
    """Frames in one or several fragments are told apart with a basic, an extended and without an offset table."""
    values = noise(8, frames=5)
    frames = [encode_jpeg_ls(frame) for frame in values]
    dataset = picture(b"", frames=5, syntax=uid.JPEGLSLossless)
    if table == "extended":
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
            frames
        )
    else:
        dataset.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table == "basic")
    assert np.array_equal(stack(dataset, tmp_path).pixels, values)


def test_a_single_frame_in_many_fragments(tmp_path: Path) -> None:
    """One frame may be cut into any number of fragments."""
    values = noise(16)
    data = encapsulate([encode_jpeg_2000(values)], fragments_per_frame=7, has_bot=False)
    assert np.array_equal(stack(picture(data, bits=16, syntax=uid.JPEG2000Lossless), tmp_path).pixels[0], values)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_threads_do_not_change_the_result(threads: int, tmp_path: Path) -> None:
    """Frames land in their own place however many threads decode them."""
    values = noise(16, frames=23)
    dataset = picture(
        encapsulate([encode_jpeg_2000(f) for f in values]), bits=16, frames=23, syntax=uid.JPEG2000Lossless
    )
    assert np.array_equal(stack(dataset, tmp_path, threads=threads).pixels, values)


# --- how values are stored --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("stored", "high_bit"), [(12, 11), (12, 15), (10, 11), (9, 8)])
def test_bits_beside_the_value_are_masked(signed: bool, stored: int, high_bit: int, tmp_path: Path) -> None:
    """Overlay planes and garbage beside BitsStored fall away, and the sign is taken from the value's own high bit."""
    values = noise(stored, signed=signed)
    shift = high_bit + 1 - stored
    cells = (values.astype(np.int32) & ((1 << stored) - 1)) << shift
    garbage = np.random.default_rng(1).integers(0, 1 << 16, cells.shape) & ~(((1 << stored) - 1) << shift)
    dataset = picture(
        (cells | garbage).astype("<u2").tobytes(),
        bits=stored,
        HighBit=high_bit,
        PixelRepresentation=int(signed),
    )
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], values)


def test_signed_jpeg_ls_of_twelve_bits(tmp_path: Path) -> None:
    """Codecs know nothing of the sign: two's complement of BitsStored is restored from unsigned samples."""
    values = noise(12, signed=True)
    frame = encode_jpeg_ls((values & 0xFFF).astype(np.uint16))
    dataset = picture(encapsulate([frame]), bits=12, syntax=uid.JPEGLSLossless, PixelRepresentation=1)
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], values)


def test_frames_of_one_bit_need_not_begin_at_a_byte(tmp_path: Path) -> None:
    """One bit pixels run on from frame to frame; 37 x 46 is no multiple of eight."""
    values = noise(1, frames=3)
    data = np.packbits(values.reshape(-1), bitorder="little").tobytes()
    assert np.array_equal(stack(picture(data, bits=1, frames=3), tmp_path).pixels, values)


@pytest.mark.parametrize(
    ("keyword", "kind", "bits"), [("FloatPixelData", "<f4", 32), ("DoubleFloatPixelData", "<f8", 64)]
)
def test_float_pixels(keyword: str, kind: str, bits: int, tmp_path: Path) -> None:
    """Float pixels are taken as they are; what is not finite takes the lowest value."""
    values = np.linspace(-3, 5, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    values[4, 5], values[6, 7] = np.nan, np.inf
    dataset = picture(b"", bits=32, BitsAllocated=bits, BitsStored=None, HighBit=None, PixelRepresentation=None)
    del dataset.PixelData
    setattr(dataset, keyword, values.astype(kind).tobytes())
    decoded = stack(dataset, tmp_path).pixels[0]
    expected = np.where(np.isfinite(values), values, -3).astype(np.float32)
    assert np.array_equal(decoded, expected)


# --- grey levels ------------------------------------------------------------------------------------------------------


def test_ct_is_in_hounsfield_units(tmp_path: Path) -> None:
    """Rescale slope and intercept of each slice are applied."""
    slices = dicom_sources.ct_series(frames=3)
    slices[1].RescaleSlope = 2
    decoded = stack(slices, tmp_path).pixels
    for dataset, pixels in zip(slices, decoded, strict=True):
        stored = np.frombuffer(dataset.PixelData, "<u2").reshape(64, 72).astype(np.float32)
        assert np.array_equal(pixels, stored * float(dataset.RescaleSlope) - 1024)


def test_rescale_of_each_enhanced_frame_in_spatial_order(tmp_path: Path) -> None:
    """Functional groups of a frame decide its values, and the stack is in spatial order, not in the object's."""
    dataset = dicom_sources.enhanced_ct(frames=4)[0]
    stored = np.frombuffer(dataset.PixelData, "<u2").reshape(4, 64, 72).astype(np.float32)
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.PixelValueTransformationSequence = [
            dicom_sources.item(RescaleSlope=index + 1, RescaleIntercept=-index, RescaleType="HU")
        ]
        groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, -2 * index]
    decoded = stack(dataset, tmp_path)
    assert [frame.frame_number for frame in decoded.frames] == [4, 3, 2, 1]
    for pixels, index in zip(decoded.pixels, (3, 2, 1, 0), strict=True):
        assert np.array_equal(pixels, stored[index] * (index + 1) - index)
    assert decoded.spacing_mm == (2.0, 0.7, 0.7)


def lut(first: int, entries: Sequence[int], bits: int, data: object = None) -> Dataset:
    """A lookup table item."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US" if data is None else "OW", list(entries) if data is None else data)
    item.ModalityLUTType = "US"
    return item


def test_modality_lut(tmp_path: Path) -> None:
    """Values below the first entry take the first, those above the last take the last."""
    values = noise(8)
    dataset = picture(values.tobytes(), ModalityLUTSequence=[lut(10, range(1000, 1100), 16)])
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], 1000 + (values.astype(int) - 10).clip(0, 99))


def test_modality_lut_packed_in_bytes(tmp_path: Path) -> None:
    """Entries of eight bits may lie two in a word."""
    values = noise(8)
    table = bytes(range(255, -1, -1))
    dataset = picture(values.tobytes(), ModalityLUTSequence=[lut(0, table, 8, table)])
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], 255 - values.astype(int))


@pytest.mark.parametrize(
    "item",
    [
        lut(0, range(256), 16, bytes(100)),
        lut(0, range(1000, 1256), 8),
    ],
    ids=["too short", "entries deeper than the descriptor says"],
)
def test_a_broken_modality_lut_is_left_out_with_a_warning(item: Dataset, tmp_path: Path) -> None:
    """A table that contradicts its descriptor leaves the pixels as stored and says so."""
    values = noise(8)
    decoded = stack(picture(values.tobytes(), ModalityLUTSequence=[item]), tmp_path)
    assert np.array_equal(decoded.pixels[0], values)
    assert decoded.warnings == (BROKEN_MODALITY_LUT,)


def test_a_slope_of_zero_is_left_out_with_a_warning(tmp_path: Path) -> None:
    """A rescale that would make every pixel equal is not believed."""
    values = noise(8)
    decoded = stack(picture(values.tobytes(), RescaleSlope=0, RescaleIntercept=5), tmp_path)
    assert np.array_equal(decoded.pixels[0], values)
    assert decoded.warnings == (BROKEN_RESCALE,)


@pytest.mark.parametrize(("slope", "intercept"), [(None, None), (2, -100)])
def test_monochrome1_is_turned(slope: float | None, intercept: float | None, tmp_path: Path) -> None:
    """Larger is brighter after decoding, within the same range, and the window turns with the values."""
    values = noise(12)
    dataset = picture(
        values.astype("<u2").tobytes(),
        bits=12,
        PhotometricInterpretation="MONOCHROME1",
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=1000.5,
        WindowWidth=1001,
    )
    decoded = stack(dataset, tmp_path)
    low, high = intercept or 0, (slope or 1) * 4095 + (intercept or 0)
    assert np.array_equal(decoded.pixels[0], high + low - (values.astype(float) * (slope or 1) + (intercept or 0)))
    assert decoded.display_range == (high + low - 1500, high + low - 500)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"WindowCenter": 128, "WindowWidth": 256}, (0.0, 255.0)),
        ({"WindowCenter": [40, 300], "WindowWidth": [401, 900]}, (-160.5, 239.5)),
        ({"WindowCenter": 100, "WindowWidth": 50, "VOILUTFunction": "LINEAR_EXACT"}, (75.0, 125.0)),
        ({"WindowCenter": 100, "WindowWidth": 50, "VOILUTFunction": "SIGMOID"}, (50.0, 150.0)),
        ({"VOILUTSequence": [lut(50, [7, 7, 7, 8, 9, 9], 8)]}, (52.0, 54.0)),
        ({"WindowCenter": 100, "WindowWidth": 0}, None),
        ({"WindowCenter": 100, "WindowWidth": -5}, None),
        ({"WindowCenter": 100, "WindowWidth": 1}, None),
        ({"WindowCenter": 2147483647, "WindowWidth": 2147483647}, None),
        ({"WindowCenter": 100}, None),
        ({}, None),
    ],
)
def test_the_window_becomes_a_range(
    window: dict[str, object], expected: tuple[float, float] | None, tmp_path: Path
) -> None:
    """The first window or the VOI LUT becomes what it spreads over the display (PS3.3 C.11.2), nonsense None."""
    assert stack(picture(noise(8).tobytes(), **window), tmp_path).display_range == expected


def test_windows_that_differ_from_slice_to_slice(tmp_path: Path) -> None:
    """One range for the whole stack: the median of the slices' windows."""
    slices = dicom_sources.mr_series(frames=3)
    for dataset, centre in zip(slices, (100, 400, 300), strict=True):
        dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = centre, 100, "LINEAR_EXACT"
    assert stack(slices, tmp_path).display_range == (250.0, 350.0)


@pytest.mark.parametrize(("signed", "padding"), [(True, -2000), (True, 63536), (False, 60000)])
@pytest.mark.filterwarnings("ignore:.*will be interpreted")
def test_padding_takes_the_lowest_value_of_the_picture(signed: bool, padding: int, tmp_path: Path) -> None:
    """Pixels outside the scanner's circle do not stretch the range, also where a signed value is written as US."""
    values = np.full((ROWS, COLUMNS), 50, np.int32)
    values[0], values[1, 0] = (-2000 if signed else 60000), -3 if signed else 3
    dataset = picture(values.astype("<i2" if signed else "<u2").tobytes(), bits=16, PixelRepresentation=int(signed))
    dataset.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    decoded = stack(dataset, tmp_path).pixels[0]
    assert (decoded.min(), decoded.max()) == (-3 if signed else 3, 50)
    assert (decoded[0] == decoded.min()).all()


# --- colour -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planar", [0, 1])
def test_native_rgb(planar: int, tmp_path: Path) -> None:
    """Pixel by pixel and plane by plane give the same picture."""
    values = noise(8, samples=3)
    data = (np.moveaxis(values, -1, 0) if planar else values).tobytes()
    assert np.array_equal(stack(picture(data, samples=3, PlanarConfiguration=planar), tmp_path).pixels[0], values)


def test_deep_rgb_is_scaled_to_eight_bits(tmp_path: Path) -> None:
    """White of 12 bits is white of 8 bits."""
    values = noise(12, samples=3)
    decoded = stack(picture(values.astype("<u2").tobytes(), bits=12, samples=3), tmp_path).pixels[0]
    assert np.array_equal(decoded, np.round(values * (255 / 4095)).astype(np.uint8))
    assert decoded.max() == 255


@pytest.mark.parametrize("way", ["native", "planar", "rle", "jpeg-ls", "jpeg 2000"])
def test_ybr_full_is_converted_once(way: str, tmp_path: Path) -> None:
    """YBR_FULL that no codec converts is converted to RGB."""
    ybr = noise(8, samples=3)
    data, syntax = {
        "native": (ybr.tobytes(), uid.ExplicitVRLittleEndian),
        "planar": (np.moveaxis(ybr, -1, 0).tobytes(), uid.ExplicitVRLittleEndian),
        "rle": (encapsulate([encode_rle(ybr)]), uid.RLELossless),
        "jpeg-ls": (encapsulate([encode_jpeg_ls(ybr)]), uid.JPEGLSLossless),
        "jpeg 2000": (
            encapsulate(
                [bytes(imagecodecs.jpeg2k_encode(ybr, level=0, codecformat="j2k", reversible=True, mct=False))]
            ),
            uid.JPEG2000Lossless,
        ),
    }[way]
    planar = int(way == "planar")
    dataset = picture(data, samples=3, syntax=syntax, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=planar)
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], convert_color_space(ybr, "YBR_FULL", "RGB"))


def test_ybr_full_422_shares_colour_between_two_pixels(tmp_path: Path) -> None:
    """Native YBR_FULL_422 stores Y Y B R for two pixels."""
    ybr = noise(8, samples=3)
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]
    pairs = ybr.reshape(-1, 2, 3)
    data = np.stack([pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]], -1).tobytes()
    dataset = picture(data, samples=3, PhotometricInterpretation="YBR_FULL_422")
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], convert_color_space(ybr, "YBR_FULL", "RGB"))


def test_ybr_full_422_by_name_only(tmp_path: Path) -> None:
    """Software that decompresses a picture often forgets to rename its colour: full samples are taken as such."""
    ybr = noise(8, samples=3)
    dataset = picture(ybr.tobytes(), samples=3, PhotometricInterpretation="YBR_FULL_422")
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], convert_color_space(ybr, "YBR_FULL", "RGB"))


@pytest.mark.parametrize(
    ("photometric", "syntax", "reversible"),
    [
        ("YBR_RCT", uid.JPEG2000Lossless, True),
        ("YBR_ICT", uid.JPEG2000, False),
        ("YBR_FULL", uid.JPEG2000Lossless, True),
    ],
)
def test_the_colour_transform_of_jpeg_2000_is_not_repeated(
    photometric: str, syntax: str, reversible: bool, tmp_path: Path
) -> None:
    """The codec undoes its own transform: the result is RGB whatever name the header gives to it."""
    values = smooth(8, samples=3)
    frame = bytes(imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", reversible=reversible, mct=True))
    decoded = stack(
        picture(encapsulate([frame]), samples=3, syntax=syntax, PhotometricInterpretation=photometric), tmp_path
    )
    assert np.abs(decoded.pixels[0].astype(int) - values).max() <= (0 if reversible else 3)


@pytest.mark.parametrize(
    ("space", "subsampling", "photometric"),
    [
        ("YCBCR", "422", "YBR_FULL_422"),
        ("YCBCR", "444", "YBR_FULL"),
        ("YCBCR", "444", "RGB"),
        ("YCBCR", "420", "RGB"),
        ("RGB", "444", "RGB"),
        ("RGB", "444", "YBR_FULL"),
    ],
)
def test_jpeg_colour_is_what_the_stream_says(space: str, subsampling: str, photometric: str, tmp_path: Path) -> None:
    """JFIF, Adobe and component names in the stream go before a photometric interpretation that contradicts them."""
    values = smooth(8, samples=3)
    frame = bytes(imagecodecs.jpeg8_encode(values, level=98, outcolorspace=space, subsampling=subsampling))
    dataset = picture(
        encapsulate([frame]), samples=3, syntax=uid.JPEGBaseline8Bit, PhotometricInterpretation=photometric
    )
    assert np.abs(stack(dataset, tmp_path).pixels[0].astype(int) - values).max() <= 6


@pytest.mark.parametrize(("photometric", "is_rgb"), [("RGB", True), ("YBR_FULL", False)])
def test_jpeg_without_markers_is_what_the_header_says(photometric: str, is_rgb: bool, tmp_path: Path) -> None:
    """A stream of three anonymous components is RGB or YBR as PhotometricInterpretation says."""
    values = smooth(8, samples=3)
    stored = values if is_rgb else convert_color_space(values, "RGB", "YBR_FULL")
    frame = bytes(
        imagecodecs.jpeg8_encode(stored, level=98, colorspace="YCBCR", outcolorspace="YCBCR", subsampling="444")
    )
    assert frame[2:4] == b"\xff\xe0"
    frame = frame[:2] + frame[4 + int.from_bytes(frame[4:6], "big") :]
    dataset = picture(
        encapsulate([frame]), samples=3, syntax=uid.JPEGBaseline8Bit, PhotometricInterpretation=photometric
    )
    assert np.abs(stack(dataset, tmp_path).pixels[0].astype(int) - values).max() <= 6


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("segmented", [False, True])
def test_palette_colour(bits: int, segmented: bool, tmp_path: Path) -> None:
    """A palette of 8 or 16 bit entries, plain or segmented, becomes RGB; indices outside take the nearest entry."""
    first, entries = 20, 200
    ramp = np.linspace(0, (1 << bits) - 1, entries).astype(int)
    values = noise(8)
    dataset = picture(values.tobytes(), PhotometricInterpretation="PALETTE COLOR")
    tables = {"Red": ramp, "Green": ramp[::-1], "Blue": np.full(entries, ramp[100])}
    for name, table in tables.items():
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [entries, first, bits])
        kind = "<u2" if bits == 16 else "u1"
        data = np.array([0, entries, *table], kind) if segmented else table.astype(kind)
        setattr(dataset, f"{'Segmented' if segmented else ''}{name}PaletteColorLookupTableData", data.tobytes())
    index = (values.astype(int) - first).clip(0, entries - 1)
    expected = np.stack([table[index] >> (bits - 8) for table in tables.values()], -1)
    assert np.array_equal(stack(dataset, tmp_path).pixels[0], expected)


@pytest.mark.parametrize("photometric", ["", "HSV", "CMYK", "YBR_PARTIAL_420"])
def test_other_photometric_interpretations_are_refused(photometric: str, tmp_path: Path) -> None:
    """What cannot be shown rightly is not guessed."""
    with pytest.raises(UnsupportedSourceError, match="PhotometricInterpretation"):
        stack(picture(noise(8, samples=3).tobytes(), samples=3, PhotometricInterpretation=photometric), tmp_path)


@pytest.mark.parametrize(
    "attributes",
    [{"SamplesPerPixel": 3}, {"BitsStored": 17}, {"BitsStored": 0}, {"BitsAllocated": 12}, {"BitsAllocated": 0}],
)
def test_contradictions_of_the_header_are_refused(attributes: dict[str, object], tmp_path: Path) -> None:
    """Numbers that cannot all be true end in words, before any pixel is touched."""
    dataset = picture(noise(16).tobytes(), bits=16, **attributes)
    with pytest.raises((DamagedSourceError, UnsupportedSourceError), match=dataset.SOPInstanceUID):
        stack(dataset, tmp_path)


# --- geometry and the rest of the stack -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: dicom_sources.ct_series(frames=4, spacing=1.25), (1.25, 0.7, 0.7)),
        (lambda: dicom_sources.ct_series(frames=6, spacing=2.0, missing=(3,)), (2.0, 0.7, 0.7)),
        (lambda: dicom_sources.ct_series(frames=1, spacing=3.0), (3.0, 0.7, 0.7)),
        (lambda: dicom_sources.enhanced_mr(frames=4, spacing=1.5), (1.5, 0.7, 0.7)),
        (dicom_sources.xa_run, None),
        (lambda: dicom_sources.xa_run(ImagerPixelSpacing=[0.3, 0.3]), None),
        (lambda: dicom_sources.xa_run(PixelSpacing=[0.2, 0.25]), (1.0, 0.2, 0.25)),
        (dicom_sources.opt_without, (1.0, 0.004, 0.012)),
        (lambda: dicom_sources.sc(PixelSpacing=[0, 0]), None),
    ],
)
def test_spacing(
    make: Callable[[], list[Dataset]], expected: tuple[float, float, float] | None, tmp_path: Path
) -> None:
    """Spacing is that of the patient: from positions and Pixel Spacing, never from the detector's own pixels."""
    spacing = stack(make(), tmp_path).spacing_mm
    assert spacing == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: dicom_sources.op_rgb(laterality="R"), "R"),
        (lambda: dicom_sources.op_grey(laterality="L"), "L"),
        (dicom_sources.opt_with_frame_of_reference, "R"),
        (lambda: dicom_sources.ct_series(frames=2, Laterality="L"), "L"),
        (lambda: dicom_sources.op_rgb(laterality="B"), None),
        (dicom_sources.xa_run, None),
    ],
)
def test_laterality(make: Callable[[], list[Dataset]], expected: str | None, tmp_path: Path) -> None:
    """The side comes from the image, its frames or its series; both sides are no side."""
    assert stack(make(), tmp_path).laterality == expected


def test_two_eyes_in_one_series_have_no_side(tmp_path: Path) -> None:
    """A series with both eyes must not be taken for one of them."""
    eyes = [dicom_sources.op_rgb(laterality=side, SeriesInstanceUID="1.2.3")[0] for side in "RL"]
    assert stack(eyes, tmp_path).laterality is None


def test_the_stack_says_what_it_is(tmp_path: Path) -> None:
    """Arrangement, frames, body part and the warnings of reading pass on to the segmenter."""
    decoded = stack(dicom_sources.ct_series(frames=7, missing=(2,)), tmp_path)
    assert decoded.arrangement is Arrangement.VOLUME
    assert len(decoded.frames) == len(decoded.pixels) == 6
    assert decoded.body_part_examined == "CHEST"
    assert decoded.warnings == ("slices are missing: gaps in the volume: 1",)


# --- bombs and damage -------------------------------------------------------------------------------------------------


def test_the_limit_is_checked_before_anything_is_decoded(tmp_path: Path) -> None:
    """A series that would need more than the limit is refused with both numbers; at the limit it is taken."""
    needed = 10 * 64 * 72 * 4
    run = dicom_sources.xa_run(frames=10)
    with pytest.raises(SourceTooLargeError, match="limit is"):
        stack(run, tmp_path, maximum_bytes=needed - 1)
    assert stack(run, tmp_path, maximum_bytes=needed).pixels.nbytes == needed


RLE_BOMB = struct.pack("<16I", 2, 64, 132, *[0] * 13) + b"\x81\x00" * 68


@pytest.mark.parametrize(
    ("frame", "syntax", "match"),
    [
        (RLE_BOMB, uid.RLELossless, "too short"),
        (encode_jpeg_2000(noise(16)), uid.JPEG2000Lossless, "37 x 46"),
        (encode_jpeg_ls(noise(16)), uid.JPEGLSLossless, "37 x 46"),
        (encode_jpeg_lossless(1)(noise(16)), uid.JPEGLosslessSV1, "37 x 46"),
        (encode_high_throughput(noise(16)), uid.HTJ2KLossless, "37 x 46"),
    ],
)
def test_a_small_stream_that_claims_a_huge_picture(frame: bytes, syntax: str, match: str, tmp_path: Path) -> None:
    """65535 x 65535 in a few bytes is refused within a second by the limit, and without the limit by the stream."""
    dataset = picture(encapsulate([frame]), bits=16, syntax=syntax, Rows=65535, Columns=65535)
    start = time.monotonic()
    with pytest.raises(SourceTooLargeError):
        stack(dataset, tmp_path)
    dataset.Rows = dataset.Columns = 20000
    with pytest.raises(DamagedSourceError, match=match):
        stack(dataset, tmp_path)
    assert time.monotonic() - start < 5


def test_an_rle_stream_that_expands_beyond_its_picture(tmp_path: Path) -> None:
    """Repeats that would fill 128 MiB stop at the size of the picture."""
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x07" * (1 << 20)
    dataset = picture(encapsulate([frame]), syntax=uid.RLELossless)
    source = read_series(dicom_sources.save([dataset], tmp_path))[0]
    tracemalloc.start()
    try:
        with pytest.raises(DamagedSourceError, match=dataset.SOPInstanceUID):
            decode(source)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claim", [(38, 46, 1), (37, 47, 1), (37, 46, 3)])
@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_a_stream_of_another_size_is_refused(
    syntax: str, encode: Callable[[Array], bytes], claim: tuple[int, int, int], tmp_path: Path
) -> None:
    """Rows, Columns and samples of the stream must be those of the header."""
    rows, columns, samples = claim
    dataset = picture(encapsulate([encode(noise(8))]), samples=samples, syntax=syntax, Rows=rows, Columns=columns)
    with pytest.raises(DamagedSourceError, match=f"{dataset.SOPInstanceUID}, frame 1"):
        stack(dataset, tmp_path)


def test_native_pixels_that_end_early_are_named(tmp_path: Path) -> None:
    """One slice with half of its pixels stops the job and is named."""
    slices = dicom_sources.ct_series(frames=5)
    slices[2].PixelData = slices[2].PixelData[: 64 * 72]
    with pytest.raises(DamagedSourceError, match=f"{slices[2].SOPInstanceUID}.*4608 of 9216 bytes"):
        stack(slices, tmp_path)


def test_a_file_cut_in_its_pixels_is_named(tmp_path: Path) -> None:
    """A length in the header that the file does not hold is damage, not a short read."""
    slices = dicom_sources.ct_series(frames=3)
    paths = dicom_sources.save(slices, tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(DamagedSourceError, match=f"{slices[1].SOPInstanceUID}.*9116 of 9216 bytes"):
        decode(read_series(paths)[0])


def test_an_object_without_pixels_is_named(tmp_path: Path) -> None:
    """An image header with nothing behind it."""
    slices = dicom_sources.ct_series(frames=3)
    del slices[1].PixelData
    with pytest.raises(DamagedSourceError, match=f"{slices[1].SOPInstanceUID}.*no pixel data"):
        stack(slices, tmp_path)


def test_native_pixels_under_an_encapsulated_syntax_are_refused(tmp_path: Path) -> None:
    """The transfer syntax and the way of storing must agree."""
    dataset = picture(noise(8).tobytes())
    path = dicom_sources.save([dataset], tmp_path)[0]
    lie = str(uid.JPEGLSLossless).encode()
    honest = str(uid.ExplicitVRLittleEndian).encode() + b"\0"
    element = b"\x02\x00\x10\x00UI"
    data = path.read_bytes()
    assert element + struct.pack("<H", len(honest)) + honest in data
    data = data.replace(element + struct.pack("<H", len(honest)) + honest, element + struct.pack("<H", len(lie)) + lie)
    length = int.from_bytes(data[140:144], "little") + len(lie) - len(honest)
    path.write_bytes(data[:140] + struct.pack("<I", length) + data[144:])
    with pytest.raises(DamagedSourceError, match="transfer syntax says"):
        decode(read_series([path])[0])


def test_missing_frames_are_counted(tmp_path: Path) -> None:
    """Fewer encoded frames than NumberOfFrames is damage in words."""
    values = noise(8, frames=4)
    dataset = picture(encapsulate([encode_jpeg_ls(frame) for frame in values]), frames=6, syntax=uid.JPEGLSLossless)
    with pytest.raises(DamagedSourceError, match="only 4 of 6 frames"):
        stack(dataset, tmp_path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
@pytest.mark.parametrize(("syntax", "encode"), [*LOSSLESS, (uid.JPEGBaseline8Bit, imagecodecs.jpeg8_encode)])
def test_a_stream_that_ends_early_is_refused_quickly(
    syntax: str, encode: Callable[[Array], bytes], kept: float, tmp_path: Path
) -> None:
    """Part of a picture is no picture: no decoder fills up the rest, and none takes long to find out."""
    frame = bytes(encode(noise(8)))
    dataset = picture(encapsulate([frame[: int(kept * len(frame))]]), syntax=syntax)
    start = time.monotonic()
    with pytest.raises(DamagedSourceError, match=f"{dataset.SOPInstanceUID}, frame 1"):
        stack(dataset, tmp_path)
    assert time.monotonic() - start < 5


def test_a_rotten_frame_is_named(tmp_path: Path) -> None:
    """The error names the instance and the frame, whichever thread met it."""
    frames = [encode_jpeg_2000(frame) for frame in noise(16, frames=9)]
    frames[6] = frames[6][:60] + b"\xff" * 40 + frames[6][100:]
    dataset = picture(encapsulate(frames), bits=16, frames=9, syntax=uid.JPEG2000Lossless)
    with pytest.raises(DamagedSourceError, match=f"{dataset.SOPInstanceUID}, frame 7"):
        stack(dataset, tmp_path)


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_mutated_streams_end_in_pixels_or_words(syntax: str, encode: Callable[[Array], bytes], tmp_path: Path) -> None:
    """Cut, changed and stretched streams give a stack or a SourceError: no other exception, no crash, no hang."""
    generator = np.random.default_rng(7)
    whole = encode(noise(8))
    refusals = []
    for _ in range(15):
        frame = bytearray(whole)
        for place in generator.integers(0, len(frame), int(generator.integers(1, 6))):
            frame[place] = generator.integers(0, 256)
        if generator.random() < 0.4:
            del frame[int(generator.integers(1, len(frame))) :]
        try:
            stack(picture(encapsulate([bytes(frame)]), syntax=syntax), tmp_path)
        except SourceError as error:
            refusals.append(str(error))
    assert refusals
    assert all(refusal.startswith("Instance ") for refusal in refusals)


@pytest.mark.parametrize("raised", [RecursionError, struct.error, KeyError, ValueError, RuntimeError, OSError])
def test_the_edge_lets_nothing_raw_through(raised: type[Exception]) -> None:
    """Any exception in the block becomes damage that names the instance and not the text, which may quote values."""
    with pytest.raises(DamagedSourceError, match=r"Instance 1\.2\.3") as caught, damage_named("Instance 1.2.3"):
        raise raised("Secret^Patient")
    assert "Secret" not in str(caught.value)


def test_the_edge_knows_exhausted_memory() -> None:
    """Out of memory is a question of size, not of damage."""
    with pytest.raises(SourceTooLargeError), damage_named("Instance 1.2.3"):
        raise MemoryError


# --- several instances ------------------------------------------------------------------------------------------------


def test_several_stills_are_one_stack_of_independent_frames(tmp_path: Path) -> None:
    """Pictures of one series decode into one stack, each frame as it is when its instance is decoded alone."""
    stills = dicom_sources.xa_runs((1, 1, 1), ROWS, COLUMNS)
    stills[2].RescaleSlope = 2
    paths = dicom_sources.save(stills, tmp_path)
    stack = decode(read_series(paths)[0])
    alone = [decode(read_series([path])[0]) for path in paths]
    assert stack.arrangement is Arrangement.FRAMES
    assert np.array_equal(stack.pixels, np.concatenate([one.pixels for one in alone]))
    assert stack.frames == tuple(frame for one in alone for frame in one.frames)


def test_spacing_is_told_only_where_all_instances_agree(tmp_path: Path) -> None:
    """Stills taken at two magnifications have no one pixel spacing."""
    stills = dicom_sources.xa_runs((1, 1), ROWS, COLUMNS, PixelSpacing=[0.2, 0.3])
    assert decode(read_series(dicom_sources.save(stills, tmp_path / "same"))[0]).spacing_mm == (1.0, 0.2, 0.3)
    stills[1].PixelSpacing = [0.4, 0.6]
    assert decode(read_series(dicom_sources.save(stills, tmp_path / "other"))[0]).spacing_mm is None
