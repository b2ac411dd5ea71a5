"""``vesselq studies rerun``."""

from typing import Annotated

import typer

from console import asking, options


def rerun(
    study_instance_uid: Annotated[str, typer.Argument(metavar="UID", callback=options.checked_uid)],
    series: Annotated[str, typer.Option("--series", metavar="UID", help="Which series.", callback=options.checked_uid)],
    prompt: asking.Words = None,
    box: asking.Boxes = None,
    point: asking.Points = None,
    segmenter: Annotated[
        str, typer.Option(metavar="NAME", help="Instead of that of the rule: a name, or several joined by +.")
    ] = "",
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Have one series segmented again, asked by you: a new result beside those that there are.

    The result is marked as semi-automatic and goes where the rule of the series sends its results.
    """
    from console.output import print_json
    from console.runs import run_again

    asked = asking.asked(prompt, box, point)
    settings = options.settings_of(config, data_folder)
    with options.open_record(settings) as record:
        job = run_again(settings, record, study_instance_uid, series, asked, segmenter=segmenter, by="console")
    if json:
        print_json(job)
    else:
        typer.echo(f"job {job.job_id} of generation {job.generation} is {job.state.value}: {job.segmenter}")
