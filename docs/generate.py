"""Writes the parts of the documentation that are made from the code, or checks that they are up to date.

A page holds such a part between two marks; everything else in a page is written by hand::

    <!-- generated: settings_tables -->
    ...
    <!-- end of settings_tables -->

    python docs/generate.py            write all parts
    python docs/generate.py --check    change nothing; exit code 1 and the names of the pages that would change
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent), str(DOCS.parent / "tests" / "support")]

from reference_blocks import commands, dicom, messy, model_folders, record, settings, web  # noqa: E402 - found through the path set above

BLOCKS: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        settings.settings_tables, settings.conditions_table, settings.default_rules_table, settings.segmenters_tables,
        commands.commands_sections, commands.exit_codes_table, commands.errors_table,
        record.state_diagram, record.job_states_table, record.transitions_table, record.delivery_states_table,
        record.events_table, record.outcomes_table,
        dicom.implementation_table, dicom.sop_classes_table, dicom.transfer_syntaxes_table,
        dicom.verification_syntaxes, dicom.rejections_table, dicom.store_statuses_table, dicom.offered_table,
        dicom.answers_table, dicom.vessel_types_table,
        messy.messy_sources_tables,
        model_folders.manifest_table, model_folders.permissive_licenses, model_folders.network_settings_tables,
        web.routes_sections, web.metrics_table,
    )
}  # fmt: skip
_PART = re.compile(r"(<!-- generated: (?P<name>\w+) -->\n).*?(<!-- end of (?P=name) -->)", re.DOTALL)


def rendered(text: str) -> str:
    """The text of a page with all its parts made anew.

    Raises:
        SystemExit: A part has a name that no function makes.
    """

    def part(match: re.Match[str]) -> str:
        if match["name"] not in BLOCKS:
            raise SystemExit(f"no part is called {match['name']!r}; there are {', '.join(sorted(BLOCKS))}")
        return f"{match[1]}\n{BLOCKS[match['name']]()}\n\n{match[3]}"

    return _PART.sub(part, text)


def stale_pages(folder: Path) -> Iterator[tuple[Path, str]]:
    """Pages below ``folder`` whose parts are not what the code says, with the text that they should have."""
    for page in sorted(folder.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        wanted = rendered(text)
        if wanted != text:
            yield page, wanted


def main() -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, say what would change")
    parser.add_argument("--folder", type=Path, default=DOCS, help="where the pages are")
    arguments = parser.parse_args()
    stale = list(stale_pages(arguments.folder))
    for page, wanted in stale:
        if not arguments.check:
            page.write_text(wanted, encoding="utf-8")
        sys.stdout.write(
            f"{'is out of date' if arguments.check else 'written'}: {page.relative_to(arguments.folder)}\n"
        )
    if stale and arguments.check:
        sys.stdout.write("run python docs/generate.py\n")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
