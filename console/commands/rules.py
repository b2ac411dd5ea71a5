"""``vesselq rules`` with ``explain`` and ``try``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from dicom_core.routing import Rule
    from dicom_core.rule_explanation import Explanation
    from dicom_core.settings import Settings
    from dicom_listener.rule_trial import Decision, Trial

_LONGEST_SHOWN = 300


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(rules)
    group.command()(explain)
    group.command("try")(try_)
    app.add_typer(
        group, name="rules", help="Show the rules in words; say which one is for a file and why; try changed rules."
    )


def rules(context: typer.Context, config: options.Config = None, json: options.Json = False) -> None:
    """Show the rules in words, in their order: the first that holds decides."""
    if context.invoked_subcommand is not None:
        return
    from console.output import print_json, print_table
    from dicom_core.rule_explanation import described

    found = [described(rule) for rule in options.settings_of(config, None).rules]
    if json:
        print_json({"rules": found})
        return
    rows = [(number, one.rule, _shortened(one.when), one.outcome) for number, one in enumerate(found, start=1)]
    print_table("Rules", ("", "rule", "when", "what is done"), rows)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}… (--json has it all)"


def explain(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM files; pixel data is not read.")],
    changed: Annotated[
        Path | None,
        typer.Option("--rules", metavar="RULES.toml", help="These rules instead of those of the settings."),
    ] = None,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Say which rule is for a file, and why the others are not. Values that tell whose it is are not shown."""
    from console.given_headers import header_of_file
    from console.output import print_json
    from dicom_core.rule_explanation import explain as explained

    settings = options.settings_of(config, None)
    in_force = _rules_of(changed, settings) if changed else settings.rules
    found = [(path, explained(in_force, header_of_file(path))) for path in files]
    if json:
        print_json({"files": [{"file": path, "explanation": explanation} for path, explanation in found]})
        return
    for path, explanation in found:
        _print_explanation(path, explanation)


def _rules_of(path: Path, settings: "Settings") -> "tuple[Rule, ...]":
    from console.rule_files import read_rules
    from dicom_core.errors import ConfigurationError

    if str(path) == "-":
        return read_rules(sys.stdin.read(), settings)
    try:
        return read_rules(path.read_text(encoding="utf-8"), settings)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {getattr(error, 'strerror', 'it is no UTF-8 text')}"
        ) from None


def _print_explanation(path: Path, explanation: "Explanation") -> None:
    from rich.console import Console
    from rich.text import Text

    from dicom_core.rule_explanation import lines

    console = Console(soft_wrap=True, highlight=False)
    said = f"rule {explanation.rule}: {explanation.decision}" if explanation.rule else explanation.decision
    console.print(Text(f"{path}: {said}", style="bold"))
    for verdict in explanation.verdicts:
        style = "green" if verdict.fires else "" if verdict.holds else "dim"
        holds = "decides" if verdict.fires else "would hold too" if verdict.holds else "does not hold"
        console.print(Text(f"  {verdict.rule}: {holds}", style=style))
        for depth, node in lines(verdict.why):
            mark = "+" if node.holds else "-"
            found = f"  [found: {node.found}]" if node.found else ""
            console.print(Text(f"    {'  ' * depth}{mark} {node.words}{found}", style=style))


def try_(
    changed: Annotated[Path, typer.Argument(metavar="RULES.toml", help="Text with [[rules]], - for standard input.")],
    days: Annotated[float, typer.Option(min=0.01, max=3650, metavar="N", help="How far back.")] = 7,
    most: Annotated[int, typer.Option(min=1, metavar="N", help="The newest studies, if there are more.")] = 1000,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Say what changed rules would have decided about the studies of the past days. Nothing is queued or written."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from console.output import print_json
    from dicom_core.spool import Spool
    from dicom_listener.rule_trial import try_rules

    settings = options.settings_of(config, data_folder)
    wanted = _rules_of(changed, settings)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        options.open_record(settings) as record,
        Progress(*columns, console=Console(stderr=True), disable=json, transient=True) as bar,
    ):
        task = bar.add_task("studies", total=None)
        trial = try_rules(
            record,
            Spool(settings.spool_folder),
            settings.rules,
            wanted,
            days=days,
            most_studies=most,
            progress=lambda done: bar.update(task, completed=done),
        )
    if json:
        print_json(trial)
    else:
        _print_trial(trial, most)


def _print_trial(trial: "Trial", most: int) -> None:
    from console.output import print_table

    limited = f" (the newest {most}; --most looks at more)" if trial.studies == most else ""
    typer.echo(
        f"{trial.series} series of {trial.studies} studies{limited}: {len(trial.changed)} would be treated otherwise, "
        f"{trial.same} as today, {trial.unknown} cannot be told since their files are gone"
    )
    print_table(
        "Treated otherwise",
        ("SeriesInstanceUID", "modality", "from", "today", "with the changed rules"),
        [
            (one.series_instance_uid, one.modality, one.calling_ae_title, _said(one.now), _said(one.then))
            for one in trial.changed
        ],
    )
    names = sorted({*trial.segmented_now, *trial.segmented_then})
    print_table(
        "Series segmented, by rule",
        ("rule", "today", "changed"),
        [(name, trial.segmented_now[name], trial.segmented_then[name]) for name in names],
    )
    if trial.unused:
        typer.echo(f"Rules that decided about no series: {', '.join(trial.unused)}")


def _said(decision: "Decision") -> str:
    return f"{decision.rule}: {decision.outcome}" if decision.rule else decision.outcome
