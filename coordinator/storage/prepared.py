"""Statements of the hot path: compiled once, and handed to the driver with nothing in between (decision 57).

SQLAlchemy compiles a statement once too, but finds it again at each use, takes its parameters apart and makes a
cursor, a context and a result of its own: four times what SQLite takes for a row by its key. What is prepared here
says the same to the driver, and answers with the same rows. Whoever listens to what is executed hears of it: then,
and outside of a transaction, and for many rows at once, it goes SQLAlchemy's way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Connection, CursorResult, Executable
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

Processor = Callable[[Any], Any]
#: How often a statement is compiled to be kept: for each set of names, and each length of its lists.
_MOST = 64


def send(connection: Connection, sql: str) -> Any:
    """The driver's cursor, after `sql` in this database's words. Raises what SQLAlchemy raises."""
    if _is_heard(connection):
        return connection.exec_driver_sql(sql).cursor
    cursor, _ = _sent(connection, sql, None, brings=False)
    return cursor


def _sent(connection: Connection, sql: str, parameters: Any, *, brings: bool) -> tuple[Any, Sequence[Any]]:
    """The driver's cursor, and the rows of what `brings` any."""
    driver: Any = connection.connection.dbapi_connection
    try:
        cursor = driver.execute(sql) if parameters is None else driver.execute(sql, parameters)
        return cursor, cursor.fetchall() if brings else ()
    except connection.dialect.loaded_dbapi.Error as error:
        # with all that becomes of a connection whose server is gone
        connection._handle_dbapi_exception(error, sql, parameters, None, None)
        raise


class Prepared(Executable):
    """A statement as `Connection.execute`, `scalar` and `scalars` take it.

    It is for statements that are made once. A parameter that stands for a list is compiled for each length of it.
    """

    def __init__(self, statement: Executable) -> None:
        self.statement = statement
        self._made: dict[tuple[object, ...], _Made] = {}
        #: The parameters that stand for lists; None: not known yet.
        self._lists: list[str] | None = None

    def _execute_on_connection(
        self, connection: Connection, distilled_params: Sequence[Mapping[str, Any]], execution_options: Any
    ) -> CursorResult[Any]:
        """What SQLAlchemy calls to have anything executed."""
        if len(distilled_params) > 1 or not connection.in_transaction() or _is_heard(connection):
            return self.statement._execute_on_connection(connection, distilled_params, execution_options)
        given = distilled_params[0] if distilled_params else {}
        key: tuple[object, ...] = (connection.dialect.name, *given)
        if self._lists:
            key += tuple(len(given[name]) for name in self._lists)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= _MOST:
                # SQLAlchemy compiles it once for all lengths
                return self.statement._execute_on_connection(connection, distilled_params, execution_options)
            made = _Made(connection, self.statement, given)
            if self._lists is None:
                self._lists = made.lists
                key += tuple(len(given[name]) for name in made.lists)
            self._made[key] = made
        return made.execute(connection, given)

    def _execute_on_scalar(
        self, connection: Connection, distilled_params: Sequence[Mapping[str, Any]], execution_options: Any
    ) -> Any:
        return self._execute_on_connection(connection, distilled_params, execution_options).scalar()


class _Outcome(IteratorResult[Any]):
    """The rows that a statement has brought, all of them; and how many it has met."""

    def __init__(self, metadata: SimpleResultMetaData, rows: Sequence[Any], rowcount: int) -> None:
        super().__init__(metadata, iter(rows))
        self.rowcount = rowcount


class _Made:
    """A statement in the words of one database, for parameters of these names."""

    def __init__(self, connection: Connection, statement: Executable, given: Mapping[str, Any]) -> None:
        dialect = connection.dialect
        clause = cast("ClauseElement", statement)
        compiled = cast("SQLCompiler", clause.compile(dialect=dialect, column_keys=list(given)))
        self.lists = [name for name in given if getattr(compiled.binds.get(name), "expanding", False)]
        state = compiled.construct_expanded_state(given)
        self._sql = state.statement
        #: What each list's elements are called in the statement; it says so itself where there are none.
        self._elements = [(name, state.parameter_expansion.get(name, [])) for name in self.lists]
        varying = {*given, *(element for _, elements in self._elements for element in elements)}
        constant = {name: value for name, value in state.parameters.items() if name not in varying}
        processors: dict[str, Processor] = {
            name: processor for name, processor in state.processors.items() if processor is not None
        }
        #: What stands in the statement itself, as the driver takes it.
        self._constant = {
            name: processors[name](value) if name in processors else value for name, value in constant.items()
        }
        self._processed = [(name, processor) for name, processor in processors.items() if name in varying]
        self._in_order = None if state.positiontup is None else _in_order(state.positiontup)
        self._columns = compiled._result_columns or []
        self._metadata: SimpleResultMetaData | None = None

    def execute(self, connection: Connection, given: Mapping[str, Any]) -> CursorResult[Any]:
        values: Mapping[str, Any] = {**self._constant, **given} if self._constant else given
        if self._processed or self._elements:
            values = dict(values)
            for name, elements in self._elements:
                values.update(zip(elements, values.pop(name), strict=True))
            for name, processor in self._processed:
                values[name] = processor(values[name])
        parameters = values if self._in_order is None else self._in_order(values)
        cursor, rows = _sent(connection, self._sql, parameters, brings=bool(self._columns))
        if (metadata := self._metadata) is None:
            metadata = self._metadata = self._described(connection, cursor)
        return cast("CursorResult[Any]", _Outcome(metadata, rows, cursor.rowcount))

    def _described(self, connection: Connection, cursor: Any) -> SimpleResultMetaData:
        dialect = connection.dialect
        processors = [
            entry.type.dialect_impl(dialect).result_processor(dialect, described[1])
            for entry, described in zip(self._columns, cursor.description or (), strict=True)
        ]
        names = [entry.keyname for entry in self._columns]
        # a row may be asked by a column too
        return SimpleResultMetaData(
            names,
            extra=[entry.objects for entry in self._columns],
            _processors=processors if any(processors) else None,
        )


def _is_heard(connection: Connection) -> bool:
    told = connection.dispatch
    return bool(
        told.before_execute or told.after_execute or told.before_cursor_execute or told.after_cursor_execute
    )


def _in_order(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """What takes the values of `names` out of a dict, one after the other."""
    if len(names) > 1:
        return cast("Callable[[Mapping[str, Any]], tuple[Any, ...]]", itemgetter(*names))
    return lambda values: tuple(values[name] for name in names)
