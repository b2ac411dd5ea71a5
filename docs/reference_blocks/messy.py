"""The tables of odd sources, from the cases that the tests prove."""

from itertools import groupby

from messy_sources import CASES

from reference_blocks.markdown import table


def messy_sources_tables() -> str:
    """A table a group: what is odd, and what vesselq does."""
    return "\n\n".join(
        f"## {group}\n\n" + table(["what is odd", "what vesselq does"], [(case.odd, case.outcome) for case in cases])
        for group, cases in groupby(CASES, key=lambda case: case.group)
    )
