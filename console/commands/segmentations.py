"""``vesselq seg show`` and ``vesselq seg compare``: look into Segmentation objects, ours and others'."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console import options

if TYPE_CHECKING:
    from worker.seg_reader.comparison import Comparison
    from worker.seg_reader.segmentation_object import SegmentationObject


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    seg = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    seg.command()(show)
    seg.command()(compare)
    app.add_typer(seg, name="seg", help="Look into DICOM Segmentation objects; compare two of them.")


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A DICOM Segmentation, of vesselq or of others.")],
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="PNG", help="Draw its frames into this file.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--source", metavar="DIR", help="Source images to draw them over.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show what a Segmentation object holds: who made it, its segments, their voxels and frames."""
    from console.output import print_json
    from dicom_core.errors import NotFoundError
    from worker.seg_reader.segmentation_object import read_segmentation

    if source is not None and picture is None:
        raise typer.BadParameter("--source needs --picture, the file to draw into")
    if source is not None and not source.is_dir():
        raise NotFoundError(f"{source} is no folder")
    if picture is not None and not picture.absolute().parent.is_dir():
        raise NotFoundError(f"{picture.absolute().parent} is no folder")
    found = read_segmentation(file)
    summary = _summary(found)
    if picture is not None:
        from worker.seg_reader.mask_pictures import write_picture

        summary["picture"] = {"path": str(picture), "frames": write_picture(found, picture, source)}
    if json:
        print_json(summary)
    else:
        _print_summary(summary)


def _summary(found: "SegmentationObject") -> dict[str, Any]:
    counts = found.counted()
    geometry = found.geometry
    return {
        "sop_instance_uid": found.sop_instance_uid,
        "series_instance_uid": found.series_instance_uid,
        "study_instance_uid": found.study_instance_uid,
        "series_description": found.series_description,
        "type": " ".join(filter(None, (found.segmentation_type, found.fractional_type))),
        "transfer_syntax": found.transfer_syntax,
        "made_by": found.equipment,
        "created": found.created,
        "rows": found.rows,
        "columns": found.columns,
        "frames": len(found.frames),
        "source_instances": len(found.source_instances),
        "spacing_mm": None if geometry is None else geometry.spacing_mm,
        "warnings": found.warnings,
        "segments": [
            {
                "number": one.number,
                "label": one.label,
                "code": {"value": one.type[0], "scheme": one.type[1], "meaning": one.type[2]},
                "region": one.region,
                "colour": one.colour,
                "algorithm": one.algorithm,
                "description": one.description,
                "frames": counts[one.number][0],
                "voxels": counts[one.number][1],
            }
            for one in found.segments
        ],
    }


def _print_summary(summary: dict[str, Any]) -> None:
    from console.output import print_table

    spacing = summary["spacing_mm"]
    facts = (
        ("series", summary["series_description"]),
        ("SeriesInstanceUID", summary["series_instance_uid"]),
        ("SOPInstanceUID", summary["sop_instance_uid"]),
        ("made by", summary["made_by"]),
        ("created", summary["created"]),
        ("type", f"{summary['type']}, {summary['transfer_syntax']}"),
        ("frames", f"{summary['frames']} of {summary['rows']} x {summary['columns']}"),
        ("source instances", summary["source_instances"]),
        ("pixel spacing", "no geometry" if spacing is None else f"{spacing[0]:g} x {spacing[1]:g} mm"),
        ("warnings", "; ".join(summary["warnings"]) or "none"),
    )
    print_table("Segmentation", ("what", "value"), facts)
    print_table(
        "Segments",
        ("number", "label", "type", "region", "colour", "found by", "frames", "voxels"),
        [
            (
                one["number"], one["label"], f"{one['code']['meaning']} ({one['code']['value']})", one["region"],
                "" if one["colour"] is None else "#{:02x}{:02x}{:02x}".format(*one["colour"]), one["algorithm"],
                one["frames"], one["voxels"],
            )
            for one in summary["segments"]
        ],
    )  # fmt: skip
    if "picture" in summary:
        typer.echo(f"{summary['picture']['path']} shows {summary['picture']['frames']} frames")


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A DICOM Segmentation, or a PNG of a mask.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one of the same images.")],
    json: options.Json = False,
) -> None:
    """Compare two results of the same images: Dice, centre-line Dice, 95th percentile surface distance.

    Segments are matched by code, then by label, then by number.
    """
    from console.output import print_json
    from worker.seg_reader.comparison import compare_files

    comparison = compare_files(first, second)
    if json:
        print_json(comparison)
    else:
        _print_comparison(comparison)


def _print_comparison(comparison: "Comparison") -> None:
    from console.output import print_table

    print_table(
        f"{comparison.frames} frames compared",
        ("segment", "matched by", "voxels A", "voxels B", "Dice", "clDice", f"95 % distance ({comparison.unit})"),
        [
            (one.label, one.matched_by, *one.voxels, *map(_rounded, (one.dice, one.cl_dice, one.distance_95)))
            for one in comparison.segments
        ],
        empty="no segment in common",
    )
    for name, labels in (("A", comparison.only_first), ("B", comparison.only_second)):
        if labels:
            typer.echo(f"only in {name}: {', '.join(labels)}")
    one_sided = sum(one.one_sided_frames for one in comparison.segments)
    if one_sided:
        typer.echo(f"on {one_sided} frames only one of the two has the segment")
    for remark in comparison.remarks:
        typer.echo(remark)


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
