"""``vesselq models predict``, ``benchmark`` and ``export-onnx``: looking at one model closely."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console import asking, options, prompt_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dicom_core.prompt import Prompt as AskedPrompt
    from worker.image_stack import ImageStack
    from worker.model_trial.choosing import Chosen
    from worker.segmenters.interface import ExamplePicture, Prompt, Segmentation

What = Annotated[
    str, typer.Argument(metavar="NAME|FOLDER", help="A segmenter of the settings, or a folder or file of a model.")
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help='"auto", "cpu" or "cuda:N".')]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="TYPE", help="float32, bfloat16 or float16, where it can be chosen.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the segmenter; repeatable.")
]
Accept = Annotated[
    str, typer.Option("--accept-license", metavar="SPDX", help="The licence of the folder, if it is not permissive.")
]


def register(models: typer.Typer) -> None:
    """Add the commands to ``vesselq models``."""
    models.command()(predict)
    models.command()(benchmark)
    models.command("export-onnx")(export_onnx)


def predict(
    what: What,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="PNG or JPEG files; or one DICOM series, or its folder.")
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="NPZ", help="Write the arrays into this file.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="PNG", help="Draw the mask over the frame with most of it.")
    ] = None,
    prompt: asking.Words = None,
    box: asking.Boxes = None,
    point: asking.Points = None,
    mask: Annotated[Path | None, typer.Option("--mask", metavar="PNG", help="Where it is about, roughly.")] = None,
    example: Annotated[
        Path | None,
        typer.Option("--example", metavar="FILE", help="Another picture, PNG or DICOM; boxes show it there."),
    ] = None,
    example_box: Annotated[
        list[str] | None, typer.Option("--example-box", metavar="L,T,R,B", help="A box in the example; repeatable.")
    ] = None,
    video: Annotated[
        bool, typer.Option("--video", help="The pictures are the frames of a run, in this order.")
    ] = False,
    dtype: Dtype = "",
    device: Device = "auto",
    settings: Set = None,
    accept_license: Accept = "",
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Show a model one picture or one series and look at what it says: the engineer's microscope.

    The file holds probability, mask, answer and what else the model gives, such as seg_vector.
    """
    from console.progress_bars import share_bar
    from worker.model_trial import result_file
    from worker.model_trial.devices import real_device
    from worker.model_trial.pictures import stack_of

    chosen = _chosen(what, dtype, settings, accept_license, config)
    _check_folders(out, picture)
    words = asking.asked(prompt, box, point)
    shown = _example(example, example_box)
    with share_bar("loading", quiet=json):
        segmenter = chosen.load(real_device(device))
    stack = stack_of(images, segmenter.info.imagings, video=video)
    asked = _prompt(words, mask, shown, stack)
    segmenter.info.check_prompt(asked)
    with share_bar("segmenting", quiet=json) as progress:
        found = segmenter.segment(stack, asked, progress)
    arrays = result_file.arrays_of(found)
    if out is not None:
        result_file.write_arrays(out, arrays)
    frame = result_file.write_overlay(picture, stack, found) if picture is not None else None
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    _report(found, stack, {"segmenter": segmenter.info.name, "arrays": shapes, "drawn_frame": frame}, as_json=json)


def _chosen(what: str, dtype: str, settings: list[str] | None, accept_license: str, config: Path | None) -> "Chosen":
    from worker.model_trial.choosing import chosen

    table = prompt_options.table_of(settings or [])
    if dtype:
        table["dtype"] = dtype
    return chosen(what, options.settings_of(config, None).models, table, accept_license)


def _example(picture: Path | None, boxes: list[str] | None) -> "ExamplePicture | None":
    from worker.model_trial.pictures import example_in
    from worker.segmenters.interface import ExamplePicture

    if (picture is None) != (not boxes):
        raise typer.BadParameter("--example and --example-box go together")
    if picture is None or not boxes:
        return None
    return ExamplePicture(example_in(picture), tuple(prompt_options.box_of(value) for value in boxes))


def _prompt(asked: "AskedPrompt", mask: Path | None, example: "ExamplePicture | None", stack: "ImageStack") -> "Prompt":
    from worker.model_trial.pictures import mask_in
    from worker.segmenters.interface import Prompt

    drawn = None if mask is None else mask_in(mask, stack)
    return Prompt(asked.questions, asked.points, asked.boxes, drawn, example)


def _check_folders(*files: Path | None) -> None:
    """A typing error in a path must not cost the minutes of a large model."""
    from dicom_core.errors import NotFoundError

    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise NotFoundError(f"{file.absolute().parent} is no folder")


def _report(found: "Segmentation", stack: "ImageStack", more: dict[str, Any], *, as_json: bool) -> None:
    from console.output import print_json, print_table

    facts = {
        **more,
        "status": found.status,
        "answer": found.answer,
        "share_in_mask": {
            one.label: round(float(mask.mean()), 6) for one, mask in zip(found.classes, found.mask, strict=True)
        },
        "highest_probability": round(float(found.probability.max(initial=0)), 4),
        "scores": [round(score, 4) for score in found.scores],
        "imaging": stack.imaging,
        "parameters": dict(found.parameters),
        "seconds": {stage: round(value, 3) for stage, value in found.seconds.items()},
        "warnings": [*stack.warnings, *found.warnings],
    }
    if as_json:
        print_json(facts)
        return
    print_table("Result", ("what", "value"), [(key.replace("_", " "), _words(value)) for key, value in facts.items()])


def _words(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return value


def benchmark(
    what: What,
    batches: Annotated[str, typer.Option("--batch", metavar="N,...", help="Frames at a time.")] = "1",
    rows: Annotated[int, typer.Option(min=16, max=8192, help="Of each frame.")] = 512,
    columns: Annotated[int, typer.Option(min=16, max=8192, help="Of each frame.")] = 512,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Measurements for each line.")] = 3,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="The true shape of a system without its weights.")
    ] = False,
    size: Annotated[str, typer.Option(metavar="WORD", help="Which shape, with --random-weights: 8b, vit-b.")] = "",
    dtype: Dtype = "",
    device: Device = "auto",
    settings: Set = None,
    accept_license: Accept = "",
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Measure how long a segmenter takes for a frame, on generated pictures."""
    from console.progress_bars import share_bar
    from worker.model_trial.devices import real_device
    from worker.model_trial.timing import time_frames
    from worker.model_trial.true_shapes import Measuring, time_true_shape

    numbers = _numbers(batches)
    torch_device = real_device(device)
    if random_weights:
        how = Measuring(torch_device, dtype, numbers, rows, columns, rounds)
        with share_bar("measuring", quiet=json):
            timings = list(time_true_shape(what, size, how))
        _print_timings(f"{what} with random weights", torch_device, timings, as_json=json)
        return
    if size:
        raise typer.BadParameter("goes with --random-weights", param_hint="--size")
    chosen = _chosen(what, dtype, settings, accept_license, config)
    with share_bar("measuring", quiet=json) as progress:
        segmenter = chosen.load(torch_device)
        timings = []
        for index, frames in enumerate(numbers):
            timings.append(time_frames(segmenter, frames, rows, columns, rounds))
            progress((index + 1) / len(numbers))
    _print_timings(segmenter.info.name, torch_device, timings, as_json=json)


def _numbers(value: str) -> list[int]:
    words = value.split(",")
    if not all(word.strip().isdecimal() and 1 <= int(word) <= 1024 for word in words):
        raise typer.BadParameter(f"{value!r} is no list of numbers of frames, for example 1,4,16", param_hint="--batch")
    return [int(word) for word in words]


def _print_timings(name: str, device: str, timings: "Iterable[object]", *, as_json: bool) -> None:
    """One line a measurement; what they tell depends on the system."""
    from console.output import jsonable, print_json, print_table

    lines = [jsonable(one) for one in timings]
    if as_json:
        print_json({"segmenter": name, "device": device, "timings": lines})
        return
    columns = [column for column in lines[0] if column != "device"]
    rows = [[_short(line[column]) for column in columns] for line in lines]
    print_table(f"{name} on {device}", [column.replace("_", " ") for column in columns], rows)


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def export_onnx(
    what: What,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    imaging: Annotated[
        str, typer.Option(metavar="KIND", help="The kind of picture that vesselnet is written for.")
    ] = "xray_angiography",
    accept_license: Accept = "",
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Write vesselnet or a SAM in the ONNX format, as a folder that a rule can use, compared with torch."""
    from console.output import print_json
    from worker.image_stack import Imaging
    from worker.model_trial.exporting import export

    if imaging not in list(Imaging):
        raise typer.BadParameter(f"{imaging!r} is none of {', '.join(Imaging)}", param_hint="--imaging")
    models = options.settings_of(config, None).models
    report = export(what, out, models, Imaging(imaging), accept_license)
    if json:
        print_json(report)
        return
    typer.echo(
        f"{out} holds {', '.join(report.files)}; onnxruntime and torch differ by {report.max_difference:.1e} at most"
    )
    typer.echo(f"next: vesselq models verify {out}")
