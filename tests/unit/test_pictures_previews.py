"""Previews of a job and the reading aids that become objects: which pictures, how large, how fast they play."""

import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from seg_cases import ARTERY_AND_VEIN, CASES, mask_for, segmentation_of

from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.pictures import preview_files
from worker.pictures.caption import caption_strip
from worker.pictures.frame_strip import MOST_BYTES, jpeg_frames, shown_frames
from worker.pictures.legend import legend_of
from worker.pictures.previews import PreviewBuilder, write_previews
from worker.pictures.reading_aids import AidKind, draw_reading_aids
from worker.pictures.run_time import display_time, frame_time, frame_times
from worker.result_header.catalogue import colour_of
from worker.segmenters.interface import Segmentation, Status
from worker.source_series import SourceKind, SourceSeries

ARTERY = (216, 101, 79)
RUN_FILES = {preview_files.FRAMES, preview_files.FRAMES_PLAIN}
VOLUME_FILES = {preview_files.MONTAGE, preview_files.PROJECTIONS, *RUN_FILES}


def stack_of(source: SourceSeries, shape: tuple[int, int] = (64, 72), *, grey: float = 100) -> ImageStack:
    """Flat frames for every frame of ``source``."""
    pixels = np.full((len(source.frames), *shape), grey, np.float32)
    return ImageStack(
        pixels, source.arrangement, source.imaging, source.frames, display_range=(0, 255), spacing_mm=(1.0, 0.5, 0.5)
    )


def case(name: str, classes: int = 1, **attributes: object) -> tuple[SourceSeries, ImageStack, Segmentation]:
    source = CASES[name].series(**attributes)
    header = source.datasets[0]
    stack = stack_of(source, (int(header.Rows), int(header.Columns)))
    return source, stack, segmentation_of(mask_for(source, classes), ARTERY_AND_VEIN if classes == 2 else None)


def opened(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# --- previews ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("xa_run", RUN_FILES),
        ("us_run", RUN_FILES),
        ("op_rgb", set()),
        ("several_op", set()),
        ("xa_still", set()),
        ("ct", VOLUME_FILES),
        ("enhanced_mr", VOLUME_FILES),
    ],
)
def test_each_kind_of_source_has_its_previews(name: str, more: set[str], tmp_path: Path) -> None:
    """Runs are animated, volumes have slices and projections, everything has a frame with and without vessels."""
    names = write_previews(*case(name), tmp_path)
    assert set(names) == {preview_files.OVERLAY, preview_files.PLAIN, *more}
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    for one in names:
        with Image.open(tmp_path / one) as image:
            assert Image.MIME[str(image.format)] == preview_files.MEDIA_TYPES[one]


def test_plain_and_overlay_fit_each_other(tmp_path: Path) -> None:
    """Both have one size, differ where the vessels are, and are equal elsewhere."""
    source, stack, found = case("xa_run")
    write_previews(source, stack, found, tmp_path)
    plain, overlay = opened(tmp_path / preview_files.PLAIN), opened(tmp_path / preview_files.OVERLAY)
    assert plain.shape == overlay.shape == (64 * 8, 72 * 8, 3)
    assert (plain == 100).all()
    differs = (plain != overlay).any(axis=-1)
    assert 0.5 < differs.mean() / found.mask[:, 1:].mean() < 2


def test_nothing_but_pixels(tmp_path: Path) -> None:
    """The files carry no text, no time and no identifiers."""
    source, stack, found = case("xa_run", PatientName="Secret^Person")
    for name in write_previews(source, stack, found, tmp_path):
        content = (tmp_path / name).read_bytes()
        for chunk in (b"tEXt", b"iTXt", b"zTXt", b"tIME", b"eXIf", b"EXIF", b"XMP ", b"Secret"):
            assert chunk not in content, name
        assert source.frames[0].sop_instance_uid.encode() not in content


def test_the_part_with_most_vessel_is_shown(tmp_path: Path) -> None:
    """Of several parts, in any order, the richest gives all previews; nothing of the others is left."""
    source, stack, found = case("xa_run")
    still, still_stack, _ = case("xa_still")
    little = segmentation_of(np.zeros((1, 1, 64, 72), np.bool_), status=Status.NO_MASK)
    for parts in (
        [(still, still_stack, little), (source, stack, found)],
        [(source, stack, found), (still, still_stack, little)],
    ):
        builder = PreviewBuilder()
        for part in parts:
            builder.add(*part)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        assert preview_files.FRAMES in builder.write(folder)
        assert (opened(folder / preview_files.OVERLAY) != 100).any()


def test_a_richer_picture_replaces_a_volume(tmp_path: Path) -> None:
    """The montage of a part that was beaten is not shown beside the frame of another part."""
    builder = PreviewBuilder()
    builder.add(*case("ct"))
    source, stack, found = case("op_rgb")
    builder.add(source, stack, replace(found, mask=np.ones_like(found.mask)))
    assert builder.write(tmp_path) == (preview_files.OVERLAY, preview_files.PLAIN)


def test_nothing_added_writes_nothing(tmp_path: Path) -> None:
    """A job without a part leaves no preview."""
    assert PreviewBuilder().write(tmp_path) == ()
    assert not list(tmp_path.iterdir())


def test_empty_mask_shows_the_middle(tmp_path: Path) -> None:
    """Without a vessel both sides are the middle frame."""
    source, stack, _ = case("xa_run")
    stack.pixels[len(stack.pixels) // 2] = 200
    nothing = segmentation_of(np.zeros((1, *stack.pixels.shape), np.bool_), status=Status.NO_MASK)
    write_previews(source, stack, nothing, tmp_path)
    assert (opened(tmp_path / preview_files.OVERLAY) == 200).all()


def test_two_segments_in_the_colours_of_their_objects() -> None:
    """Legend and drawing have the colours that the SEG object recommends, on the fundus other ones than elsewhere."""
    source, stack, found = case("op_rgb", 2)
    legend = legend_of(stack, found)
    assert legend.colours == (colour_of("artery", Imaging.FUNDUS), colour_of("vein", Imaging.FUNDUS))
    assert legend_of(replace(stack, imaging=Imaging.CT), found).colours[0] == ARTERY
    assert source.imaging is Imaging.FUNDUS


# --- animation --------------------------------------------------------------------------------------------------------


def run_of(frames: int, rows: int = 64, columns: int = 72) -> tuple[SourceSeries, ImageStack]:
    source = CASES["xa_run"].series(frames=frames, rows=rows, columns=columns)
    return source, stack_of(source, (rows, columns))


def test_animation_shows_the_frames_around_the_vessels() -> None:
    """Frames long before the contrast and long after it are left out, and at most 40 are kept."""
    _, stack = run_of(200)
    mask = np.zeros((1, 200, 64, 72), np.bool_)
    mask[0, 50:60, 10:20, 10:20] = True
    shown = shown_frames(stack, mask, [ARTERY])
    assert (len(shown.overlay), len(shown.plain), shown.step) == (16, 16, 1)
    mask[0, 50:180, 10:20, 10:20] = True
    shown = shown_frames(stack, mask, [ARTERY])
    assert (len(shown.overlay), len(shown.plain), shown.step) == (40, 40, 3)
    assert max(shown.overlay[0].shape) <= 512


def pictures_in(content: bytes) -> list[NDArray[np.uint8]]:
    """The pictures of a strip, found by the markers at their ends as the page does it."""
    ends = [match.start() + 2 for match in re.finditer(b"\xff\xd9(?=\xff\xd8|$)", content)]
    parts = [content[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    return [np.asarray(Image.open(BytesIO(part)).convert("RGB")) for part in parts]


def test_frames_with_and_without_vessels_are_the_same_frames(tmp_path: Path) -> None:
    """A page switches between two strips of a volume: as many slices of one size, which differ in the vessels."""
    source, stack, found = case("ct")
    write_previews(source, stack, found, tmp_path)
    marked = pictures_in((tmp_path / preview_files.FRAMES).read_bytes())
    plain = pictures_in((tmp_path / preview_files.FRAMES_PLAIN).read_bytes())
    assert len(marked) == len(plain) == len(stack.pixels)
    assert {picture.shape for picture in (*marked, *plain)} == {marked[0].shape}
    assert all((np.abs(picture.astype(int) - 100) <= 2).all() for picture in plain)
    differing = [bool((np.abs(one.astype(int) - 100) > 20).any()) for one in marked]
    assert differing == list(found.mask.any(axis=(0, 2, 3)))


def test_frames_play_at_the_speed_of_the_source(tmp_path: Path) -> None:
    """The first picture says how long each is shown: FrameTime for a run, a tenth of a second for slices."""
    for name, expected in (("xa_run", b"67"), ("ct", b"100")):
        source, stack, found = case(name)
        write_previews(source, stack, found, tmp_path)
        with Image.open(tmp_path / preview_files.FRAMES) as first:
            assert first.info["comment"] == expected


def test_noise_stays_below_two_megabytes() -> None:
    """Frames that cannot be compressed become worse and then smaller until the file is small enough."""
    noise = np.random.default_rng(3).integers(0, 256, (24, 512, 512, 3)).astype(np.uint8)
    content = jpeg_frames(list(noise), 10)
    assert len(content) <= MOST_BYTES
    pictures = pictures_in(content)
    assert len(pictures) == 24
    assert pictures[0].shape[1] < 512


# --- time -------------------------------------------------------------------------------------------------------------


def header_with(**attributes: object) -> Dataset:
    header = Dataset()
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return header


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"FrameTime": "66.7"}, 66.7),
        ({"FrameTime": "66.7", "CineRate": "30"}, 66.7),
        ({"CineRate": "25"}, 40.0),
        ({"FrameTime": "0", "RecommendedDisplayFrameRate": "10"}, 100.0),
        ({"NumberOfFrames": 3, "FrameTimeVector": ["0", "30", "50"]}, 40.0),
        ({}, 1000 / 15),
        ({"FrameTime": None, "CineRate": None}, 1000 / 15),
        ({"FrameTime": "-5"}, 1000 / 15),
    ],
)
def test_display_time(attributes: dict[str, object], expected: float) -> None:
    """FrameTime goes before rates, rates before the mean of the vector; without any it is 15 frames a second."""
    assert display_time(header_with(**attributes)) == pytest.approx(expected)


def test_broken_times_are_no_times() -> None:
    """A vector of another length than the run, and values that are no numbers, say nothing."""
    assert frame_times(header_with(NumberOfFrames=3, FrameTimeVector=["0", "30"])) is None
    assert frame_times(header_with(NumberOfFrames=1)) is None
    assert frame_time(header_with()) is None


# --- reading aids -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_source_has_reading_aids(name: str) -> None:
    """One aid for each instance without geometry; projections, then slices, of a volume; references to real frames."""
    source, stack, found = case(name)
    aids = draw_reading_aids(source, stack, found, model="ridge 1.0")
    kinds = [aid.kind for aid in aids]
    if source.kind in (SourceKind.SLICES, SourceKind.ENHANCED):
        assert kinds == [AidKind.PROJECTION, AidKind.MONTAGE]
    else:
        assert kinds == [AidKind.OVERLAY] * len(source.datasets)
        assert tuple(frame for aid in aids for frame in aid.frames) == source.frames
    for aid in aids:
        assert aid.pixels.dtype == np.uint8
        assert set(aid.frames) <= set(source.frames)


def test_overlay_keeps_every_pixel_in_its_place() -> None:
    """At 512 pixels nothing is scaled: the upper part is the source but for lines and tints, the lower is the strip."""
    source, stack = run_of(3, 512, 520)
    stack.pixels[:] = np.random.default_rng(5).integers(0, 256, stack.pixels.shape)
    mask = np.zeros((1, 3, 512, 520), np.bool_)
    mask[0, 1, 100:110, 50:400] = True
    found = segmentation_of(mask)
    (aid,) = draw_reading_aids(source, stack, found, model="ridge 1.0")
    strip = caption_strip(520, legend_of(stack, found, "ridge 1.0"))
    assert aid.scale == 1.0
    assert aid.pixels.shape == (3, 512 + len(strip), 520, 3)
    assert (aid.pixels[:, 512:] == strip).all()
    untouched = ~np.pad(mask[0, 1], 1)[1:-1, 1:-1]
    untouched[98:112, 48:402] = False
    assert np.array_equal(aid.pixels[1, :512][untouched], np.repeat(stack.pixels[1][..., None], 3, -1)[untouched])
    assert np.array_equal(aid.pixels[0, :512, :, 0], stack.pixels[0])


def test_long_runs_are_shortened_to_the_vessels() -> None:
    """A run that would be too large loses the frames before and after the contrast first."""
    source, stack = run_of(40, 512, 512)
    mask = np.zeros((1, 40, 512, 512), np.bool_)
    mask[0, 20:30, 5:9] = True
    (aid,) = draw_reading_aids(source, stack, segmentation_of(mask), model="", maximum_bytes=20 * 600 * 512 * 3)
    assert [frame.frame_number for frame in aid.frames] == list(range(16, 36))
    assert (aid.scale, aid.step) == (1.0, 1)


def test_large_runs_are_made_smaller_then_thinned_out() -> None:
    """What is still too large is halved, not below 512 pixels, and then every n-th frame stays."""
    source, stack = run_of(8, 1024, 1024)
    mask = np.ones((1, 8, 1024, 1024), np.bool_)
    found = segmentation_of(mask)
    (half,) = draw_reading_aids(source, stack, found, model="", maximum_bytes=8 * 600 * 512 * 3)
    assert (half.scale, half.step, len(half.pixels)) == (0.5, 1, 8)
    (thin,) = draw_reading_aids(source, stack, found, model="", maximum_bytes=3 * 600 * 512 * 3)
    assert (thin.scale, thin.step) == (0.5, 3)
    assert [frame.frame_number for frame in thin.frames] == [1, 4, 7]
    assert thin.pixels.nbytes <= 3 * 600 * 512 * 3


def test_small_runs_grow_only_when_there_is_room() -> None:
    """64 by 72 pixels become eight times larger so that lines and words can be seen, unless the run is too long."""
    source, stack, found = case("xa_run")
    (grown,) = draw_reading_aids(source, stack, found, model="")
    (small,) = draw_reading_aids(source, stack, found, model="", maximum_bytes=600_000)
    assert (grown.scale, small.scale) == (8.0, 1.0)
    assert len(small.frames) == len(grown.frames)


def test_several_runs_and_stills_in_one_stack() -> None:
    """Frames of one instance stay together, stills between runs are pictures of their own."""
    frames = tuple(
        FrameIdentity(uid, number)
        for uid, count in (("1.1", 3), ("1.2", 1), ("1.3", 2))
        for number in range(1, count + 1)
    )
    stack = ImageStack(np.zeros((6, 8, 8), np.float32), Arrangement.FRAMES, Imaging.XRAY_ANGIOGRAPHY, frames)
    source = replace(CASES["xa_run_of_several"].series(), frames=frames)
    aids = draw_reading_aids(source, stack, segmentation_of(np.ones((1, 6, 8, 8), np.bool_)), model="")
    assert [len(aid.frames) for aid in aids] == [3, 1, 2]
