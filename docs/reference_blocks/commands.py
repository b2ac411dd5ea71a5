"""The command line and its exit codes, from the commands themselves."""

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from console.cli import app
from dicom_core.errors import VesselqError
from reference_blocks.markdown import code, table


def commands() -> Iterator[tuple[str, Any, Any]]:
    """``(name, command, context)`` of every command, groups before their members."""
    root = typer.main.get_command(app)
    yield from _below(root, typer.Context(root, info_name="vesselq"))


def _below(command: Any, context: Any) -> Iterator[tuple[str, Any, Any]]:
    yield context.command_path, command, context
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            yield from _below(member, typer.Context(member, parent=context, info_name=name))


def commands_sections() -> str:
    """One section a command: what it does, how it is written, its options."""
    return "\n\n".join(_section(name, command, context) for name, command, context in commands())


def _section(name: str, command: Any, context: Any) -> str:
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"## `{name}`", " ".join((command.help or "").split()), f"```text\n{usage}\n```"]
    options = [record for option in command.get_params(context) if (record := _record(option, context))]
    parts.append(table(["argument or option", "what it is"], options))
    if isinstance(command, TyperGroup):
        members = ", ".join(code(f"{name} {member}") for member in command.list_commands(context))
        parts.append(f"Commands: {members}.")
    return "\n\n".join(part for part in parts if part)


def _record(option: Any, context: Any) -> tuple[str, str] | None:
    record = option.get_help_record(context)
    if record is None and option.param_type_name == "argument":
        record = (option.make_metavar(context), option.help or "")
    if record is None:
        return None
    return code(record[0]), re.sub(r"\s+", " ", record[1]).replace("[", "(").replace("]", ")")


def exit_codes_table() -> str:
    """Which error ends a command with which code."""
    by_code: dict[int, list[str]] = {}
    for kind in _errors(VesselqError):
        by_code.setdefault(kind.exit_code, []).append(code(kind.__name__))
    meaning = {
        0: ("done", ""),
        1: ("the answer is no, or something failed that no other code names", by_code.pop(1)),
        2: ("the command line or the settings are wrong", by_code.pop(2)),
        3: ("a service that is needed does not answer; the same command may succeed later", by_code.pop(3)),
        4: ("what was named does not exist", by_code.pop(4)),
        5: ("the record does not allow that change now", by_code.pop(5)),
        130: ("interrupted from the keyboard", ""),
    }
    if by_code:
        raise SystemExit(f"docs/reference_blocks/commands.py: explain the exit codes {sorted(by_code)}")
    rows = [(number, words, ", ".join(errors)) for number, (words, errors) in meaning.items()]
    return table(["code", "meaning", "errors"], rows)


def errors_table() -> str:
    """Every error, whether trying again can help, and what it means."""
    rows = [
        (code(kind.__name__), "yes" if kind.retryable else "no", (kind.__doc__ or "").strip().split("\n\n")[0])
        for kind in _errors(VesselqError)
    ]
    return table(["error", "can help to try again", "meaning"], rows)


def _errors(kind: type[VesselqError]) -> Iterator[type[VesselqError]]:
    if kind.__module__ == VesselqError.__module__:
        yield kind
        for below in kind.__subclasses__():
            yield from _errors(below)
