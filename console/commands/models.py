"""``vesselq models``: what is installed and configured, and folders of weights from download to rule."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console import options
from console.commands import model_trials

if TYPE_CHECKING:
    from dicom_core.settings import Settings
    from worker.model_folder.manifest import ManifestClass


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    models = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    models.command("list")(list_models)
    models.command()(show)
    models.command()(convert)
    models.command()(verify)
    model_trials.register(models)
    app.add_typer(models, name="models", help="Model systems and folders of weights: list, convert, verify, try, time.")


def list_models(config: options.Config = None, json: options.Json = False) -> None:
    """List the model systems that are installed, and the models of the settings."""
    from console.output import print_json, print_table
    from worker.segmenters import registry

    settings = options.settings_of(config, None)
    systems = registry.available()
    configured = [_configured(name, settings) for name in sorted(settings.models)]
    if json:
        print_json({"systems": systems, "models": configured})
        return
    print_table(
        "Systems",
        ("name", "version", "for", "asked by", "what it is", "licence"),
        [
            (
                info.name, info.version, sorted(info.imagings), sorted(info.prompts),
                f"{info.summary}{' (needs a folder)' if info.needs_folder else ''}", info.license,
            )
            for info in systems
        ],
    )  # fmt: skip
    columns = ("name", "system", "version", "folder", "license", "remark")
    print_table("Models of the settings", columns, [[one[key] for key in columns] for one in configured])


def _configured(name: str, settings: "Settings") -> dict[str, Any]:
    from dicom_core.errors import VesselqError
    from worker.segmenters import registry

    table = settings.models[name]
    known = {"name": name, "system": table.get("system", name), "folder": str(table.get("folder", ""))}
    try:
        registry.check_settings(name, settings.models)
        info = registry.info(name, settings.models)
    except VesselqError as error:
        return {**known, "version": "", "license": "", "remark": str(error)}
    return {**known, "version": info.version, "license": info.license, "remark": ""}


def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A segmenter, or a folder of weights.")],
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Show everything that is known of a segmenter or a folder of weights, and the text of its licence."""
    from console.output import jsonable, print_json, print_table
    from worker.model_trial.describing import described

    facts = described(name, options.settings_of(config, None).models)
    if json:
        print_json(facts)
        return
    text = facts.pop("license_text", "")
    print_table(name, ("what", "value"), ((key, _in_cell(value)) for key, value in jsonable(facts).items()))
    if text:
        typer.echo(f"\n{text.strip()}")


def _in_cell(value: Any) -> Any:
    """Tables within the table on one line; of classes the labels."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} = {one}" for key, one in value.items())
    if isinstance(value, list):
        return [one["label"] if isinstance(one, dict) else one for one in value]
    return value


def convert(
    source: Annotated[Path, typer.Argument(metavar="FOLDER|FILE", help="As it was downloaded or exported.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    system: Annotated[str, typer.Option(metavar="NAME", help="Which runs it, where its looks do not tell.")] = "",
    name: Annotated[str, typer.Option(metavar="WORD", help="Names the results; else that of OUT.")] = "",
    version: Annotated[str, typer.Option(metavar="TEXT", help="Of the weights.")] = "1",
    license_name: Annotated[
        str, typer.Option("--license", metavar="SPDX", help="Where the model card does not say it.")
    ] = "",
    license_file: Annotated[
        Path | None, typer.Option("--license-file", metavar="FILE", help="The text of the licence.")
    ] = None,
    summary: Annotated[str, typer.Option(metavar="TEXT", help="One line for lists.")] = "",
    origin: Annotated[str, typer.Option("--source", metavar="TEXT", help="Where the model comes from.")] = "",
    revision: Annotated[str, typer.Option(metavar="TEXT", help="Which revision of it.")] = "",
    imaging: Annotated[
        list[str] | None,
        typer.Option("--imaging", metavar="KIND", help="A kind of picture that it is for; repeatable."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="KEY=LABEL", help="What it finds, by coded vessel type; repeatable, in order."),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="TYPE", help="Of the weights of sa2va: bfloat16 (the default) or float32.")
    ] = "",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", metavar="TOML", help="What its system must know of the model.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="The same, one by one; repeatable.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Make a folder of weights that a rule can use: allowed files, their hashes, licence, and a manifest."""
    from console.output import print_json
    from console.progress_bars import bytes_bar
    from console.prompt_options import table_in, table_of
    from worker.image_stack import Imaging
    from worker.model_folder.adopting import Description
    from worker.model_folder.recognising import recognise
    from worker.model_trial.converting import convert as convert_model

    raw = recognise(source, _known_system(system))
    said = Description(
        name=name or out.absolute().name, version=version, license=license_name, license_file=license_file,
        summary=summary, source=origin, revision=revision, classes=_classes(classes or []),
        imagings=tuple(Imaging(word) for word in _kinds(imaging or [])),
        settings={**table_in(settings_file), **table_of(settings or [])},
    )  # fmt: skip
    total = sum((raw.folder / file).stat().st_size for file in raw.files)
    with bytes_bar("converting", total, quiet=json) as progress:
        manifest = convert_model(raw, out, said, progress, dtype=dtype)
    if json:
        print_json({"folder": out, "left_out": raw.left_out, **manifest.model_dump(mode="json")})
        return
    typer.echo(f"{out} is a model for {manifest.system} ({raw.because}), licensed under {manifest.license}")
    if raw.left_out:
        typer.echo(f"left out: {', '.join(raw.left_out[:10])}{' and others' if len(raw.left_out) > 10 else ''}")
    typer.echo(f"next: vesselq models verify {out}")
    if not manifest.is_permissive:
        typer.echo(f'a rule can use it once the settings say accept_license = "{manifest.license}"')


def _known_system(name: str) -> str:
    from worker.segmenters import registry

    return registry.system_info(name).name if name else ""


def _classes(values: list[str]) -> "tuple[ManifestClass, ...]":
    from worker.model_folder.manifest import ManifestClass
    from worker.result_header.catalogue import VESSEL_TYPES

    found = []
    for value in values:
        key, _, label = value.partition("=")
        if key not in VESSEL_TYPES or not 1 <= len(label) <= 64:
            known = ", ".join(sorted(VESSEL_TYPES))
            raise typer.BadParameter(f"{value!r} is not KEY=LABEL; the keys are {known}", param_hint="--class")
        found.append(ManifestClass(key=key, label=label))
    return tuple(found)


def _kinds(values: list[str]) -> list[str]:
    from worker.image_stack import Imaging

    for value in values:
        if value not in list(Imaging):
            raise typer.BadParameter(f"{value!r} is none of {', '.join(Imaging)}", param_hint="--imaging")
    return values


def verify(
    name: Annotated[
        str, typer.Argument(metavar="FOLDER|NAME", help="A folder of weights, or a model of the settings.")
    ],
    device: model_trials.Device = "auto",
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Hashes and licence; do not load the model.")
    ] = False,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Check every file of a folder of weights, load the model strictly, and show it a generated picture.

    Exit code 1 when something is not as the manifest says.
    """
    from console.output import print_json, print_table
    from console.progress_bars import bytes_bar
    from worker.model_folder.checking import Health, total_bytes
    from worker.model_folder.manifest import read_manifest
    from worker.model_trial import verifying
    from worker.model_trial.devices import real_device

    folder = _folder_of(name, options.settings_of(config, None))
    with bytes_bar("reading", total_bytes(read_manifest(folder)), quiet=json) as progress:
        findings = verifying.verify(folder, real_device(device), progress, load=not files_only)
    fails = any(one.health is Health.FAILS for one in findings)
    if json:
        print_json({"folder": folder, "ok": not fails, "findings": findings})
    else:
        print_table(str(folder), ("what", "health", "detail"), [(one.what, one.health, one.detail) for one in findings])
    if fails:
        raise typer.Exit(1)


def _folder_of(name: str, settings: "Settings") -> Path:
    from dicom_core.errors import ConfigurationError

    folder = settings.models.get(name, {}).get("folder")
    if folder:
        return Path(str(folder))
    if not Path(name).exists():
        raise ConfigurationError(f"{name} is neither a folder of weights nor a model of the settings that has one")
    return Path(name)
