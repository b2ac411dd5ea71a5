"""Statements that are compiled once and given to the driver as they are: for the busiest paths.

SQLAlchemy prepares each execution for whatever a statement could be, and that takes several times as long as a database
needs for one row. Here the SQL, the order of its values and what their types ask for are kept for each dialect.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect, Select
from sqlalchemy.sql.dml import UpdateBase

from db.session import by_driver


@dataclass(frozen=True, slots=True)
class _Compiled:
    sql: str
    order: tuple[str, ...] | None
    """Of values without names; None where the driver takes names."""
    constants: Mapping[str, Any]
    processors: Mapping[str, Callable[[Any], Any]]


class Prepared:
    """A statement whose values have names."""

    def __init__(self, statement: UpdateBase | Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def execute(self, connection: Connection, **values: Any) -> Any:
        """Run it with a value for each name; the driver's cursor. Raises what ``Connection.execute`` raises."""
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = _compiled(self._statement, dialect)
        values.update(compiled.constants)
        for name, process in compiled.processors.items():
            values[name] = process(values[name])
        order = compiled.order
        given = values if order is None else tuple([values[key] for key in order])
        return by_driver(connection, compiled.sql, given)


def _compiled(statement: UpdateBase | Select[Any], dialect: Dialect) -> _Compiled:
    compiled = statement.compile(dialect=dialect)
    processors = {
        name: process
        for name, bind in compiled.binds.items()
        if (process := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
    }
    return _Compiled(
        sql=compiled.string,
        order=tuple(compiled.positiontup) if compiled.positiontup is not None else None,
        constants={name: value for name, value in compiled.params.items() if value is not None},
        processors=processors,
    )
