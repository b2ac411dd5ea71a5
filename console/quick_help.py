"""Answering ``--help`` before anything is parsed: parsing loads pydantic, which takes longer than all the rest."""

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

HELP_OPTIONS = ("-h", "--help")


class QuickHelpGroup(TyperGroup):
    """The group of all commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the command that help is wanted for by its name alone."""
        words = args[: args.index("--")] if "--" in args else args
        if any(word in HELP_OPTIONS for word in words):
            typer.echo(_help_of(self, ctx, words))
            raise typer.Exit
        return super().parse_args(ctx, args)


def _help_of(command: Any, context: Any, words: Sequence[str]) -> str:
    for word in words:
        found = command.get_command(context, word) if isinstance(command, TyperGroup) else None
        if found is not None:
            command, context = found, typer.Context(found, parent=context, info_name=word)
    text: str = command.get_help(context)
    return text
