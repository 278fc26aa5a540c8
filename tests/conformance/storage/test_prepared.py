"""Prepared statements: to the driver the same, and with the same answers, as by SQLAlchemy's own way."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    event,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy import exc as sa
from sqlalchemy.sql.compiler import SQLCompiler

import coordinator
from coordinator.foundation.errors import StorageUnavailable
from coordinator.storage.prepared import Prepared, send
from coordinator.storage.tables import runs
from tests.conformance.store import Store

notes = Table(
    "notes",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("word", String, nullable=False),
    Column("weight", Float),
    Column("done", Boolean),
    Column("data", LargeBinary),
    CheckConstraint("weight < 100", name="weight"),
)
ROWS: list[dict[str, Any]] = [
    {"id": 1, "word": "one", "weight": 0.5, "done": True, "data": b"\0\xff"},
    {"id": 2, "word": "two %s ? :x", "weight": None, "done": False, "data": None},
    {"id": 3, "word": "três 日本", "weight": 3.0, "done": None, "data": b""},
]


@pytest.fixture
def kept(store: Store) -> Iterator[Store]:
    """A store with `notes`, which goes with it."""
    store.write(lambda conn, now: notes.create(conn))
    store.write(lambda conn, now: conn.execute(insert(notes), ROWS))
    yield store
    store.write(lambda conn, now: notes.drop(conn))


def both(store: Store, statement: Any, given: dict[str, Any], look: Callable[[Any], Any]) -> Any:
    """What `look` makes of the result, which has to be the same by both ways, at the first use and the second."""
    prepared = Prepared(statement)

    def one(conn: Connection, now: float) -> Any:
        with conn.begin_nested() as ways:
            usual = look(conn.execute(statement, given))
            ways.rollback()
        for _ in range(2):
            with conn.begin_nested() as ways:
                assert look(conn.execute(prepared, given)) == usual
                ways.rollback()
        return usual

    return store.write(one)


LOOKS: dict[str, Callable[[Any], Any]] = {
    "all": lambda result: result.all(),
    "first": lambda result: result.first(),
    "iterated": list,
    "scalar": lambda result: result.scalar(),
    "scalars": lambda result: result.scalars().all(),
    "mappings": lambda result: [dict(row) for row in result.mappings()],
    "mapping of a row": lambda result: [dict(row._mapping) for row in result],
    "names": lambda result: [(list(result.keys()), row._fields, row._asdict()) for row in result],
    "by name": lambda result: [(row.word, row.done, row.weight, row.data, row.id) for row in result],
    "by column": lambda result: [row._mapping[notes.c.word] for row in result],
    "by place": lambda result: [(row[0], row[-1], row[1:3], len(row)) for row in result],
}


@pytest.mark.parametrize("look", LOOKS)
def test_rows_are_the_same(kept: Store, look: str) -> None:
    statement = select(notes).where(notes.c.id >= bindparam("least")).order_by(notes.c.id)
    assert both(kept, statement, {"least": 1}, LOOKS[look])


@pytest.mark.parametrize("given", [[], [1], [2, 3], [3, 2, 1, 9]], ids=len)
@pytest.mark.parametrize("negated", [False, True])
def test_lists_have_any_length(kept: Store, given: list[int], negated: bool) -> None:
    listed = bindparam("listed", expanding=True)
    condition = notes.c.id.not_in(listed) if negated else notes.c.id.in_(listed)
    statement = Prepared(
        select(notes.c.id).where(condition, notes.c.word != bindparam("word")).order_by(notes.c.id)
    )
    wanted = [n for n in (1, 2, 3) if (n in given) != negated]

    def look(conn: Connection, now: float) -> None:
        for _ in range(2):
            assert list(conn.scalars(statement, {"listed": given, "word": "x"})) == wanted
            # another length in between
            assert list(conn.scalars(statement, {"listed": [2], "word": "x"})) == ([1, 3] if negated else [2])

    kept.write(look)


def test_values_in_the_statement_and_given_ones_are_bound_as_their_types_want(kept: Store) -> None:
    data = update(notes).where(notes.c.id == bindparam("which"), notes.c.word.in_(("one", "other")))
    data = data.values(done=bindparam("to_done"), data=bindparam("to_data"), weight=literal(7) + notes.c.weight)
    given = {"which": 1, "to_done": False, "to_data": b"\x01\x00"}
    changed = both(kept, data.returning(*notes.c), given, lambda result: result.all())
    assert changed == [(1, "one", 7.5, False, b"\x01\x00")]


def test_rows_that_are_met_are_counted(kept: Store) -> None:
    some = {"listed": [1, 2, 7]}
    statement = delete(notes).where(notes.c.id.in_(bindparam("listed", expanding=True)))
    assert both(kept, statement, some, lambda result: result.rowcount) == 2
    none = update(notes).where(notes.c.id == bindparam("which")).values(word="x")
    assert both(kept, none, {"which": 9}, lambda result: result.rowcount) == 0


def test_an_insert_is_given_these_columns_or_those(kept: Store) -> None:
    add = Prepared(insert(notes))

    def put(conn: Connection, now: float) -> list[Any]:
        conn.execute(add, {"id": 4, "word": "a"})
        conn.execute(add, {"word": "b", "id": 5})
        conn.execute(add, {"id": 6, "word": "c", "weight": 1.5, "done": True})
        conn.execute(add, [{"id": 7, "word": "d"}, {"id": 8, "word": "e"}])
        return [tuple(row) for row in conn.execute(select(notes).where(notes.c.id > 3).order_by(notes.c.id))]

    assert kept.write(put) == [
        (4, "a", None, None, None),
        (5, "b", None, None, None),
        (6, "c", 1.5, True, None),
        (7, "d", None, None, None),
        (8, "e", None, None, None),
    ]


def test_columns_of_one_name_are_told_apart_alike(kept: Store) -> None:
    other = notes.alias()
    statement = select(notes.c.id, other.c.id).join_from(notes, other, notes.c.id == other.c.id - 1)
    rows = both(kept, statement, {}, lambda result: [(row._fields, tuple(row), row.id) for row in result])
    assert [row[1:] for row in rows] == [((1, 2), 1), ((2, 3), 2)]


REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception]]] = {
    "unique": (insert(notes), {"id": 1, "word": "x"}, sa.IntegrityError),
    "null": (insert(notes), {"id": 9, "word": None}, sa.IntegrityError),
    "check": (update(notes).values(weight=bindparam("to_weight")), {"to_weight": 100.0}, sa.IntegrityError),
    "no such table": (text("SELECT * FROM nothing"), {}, sa.DBAPIError),
    "too large": (select(notes).where(notes.c.id == bindparam("which")), {"which": 2**70}, Exception),
    "half a pair": (select(notes).where(notes.c.word == bindparam("which")), {"which": "\ud800"}, Exception),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_said_in_the_same_words_and_leaves_the_transaction(kept: Store, name: str) -> None:
    statement, given, kind = REFUSED[name]

    def one(conn: Connection, now: float) -> list[tuple[type[BaseException], str]]:
        said = []
        for way in (statement, Prepared(statement)):
            with pytest.raises(kind) as refused, conn.begin_nested():
                conn.execute(way, given).all()
            said.append((type(refused.value), str(refused.value)))
        assert conn.scalar(select(func.count()).select_from(notes)) == 3
        return said

    usual, prepared = kept.write(one)
    assert prepared == usual


def test_a_connection_that_is_gone_is_said_so_and_is_not_used_again(postgres_store: Store) -> None:
    statement = Prepared(select(runs.c.id).where(runs.c.id == bindparam("which")))

    def look(conn: Connection, now: float) -> int:
        return len(conn.execute(statement, {"which": "run_1"}).all())

    def cut(conn: Connection, now: float) -> None:
        own = conn.scalar(text("SELECT pg_backend_pid()"))
        with conn.engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": own})
        look(conn, now)

    assert postgres_store.write(look) == 0
    with pytest.raises(StorageUnavailable) as gone:
        postgres_store.write(cut)
    assert isinstance(gone.value.__cause__, sa.DBAPIError)
    assert gone.value.__cause__.connection_invalidated
    assert postgres_store.write(look) == 0


def test_who_listens_hears_of_each(kept: Store) -> None:
    statement = Prepared(select(notes.c.word).where(notes.c.id == bindparam("which")))

    def look(conn: Connection, now: float) -> list[str]:
        heard: list[str] = []

        def before(conn: Connection, cursor: object, sent: str, *rest: object) -> None:
            heard.append(sent)

        event.listen(conn, "before_cursor_execute", before)
        assert conn.scalar(statement, {"which": 1}) == "one"
        send(conn, "SAVEPOINT here")
        event.remove(conn, "before_cursor_execute", before)
        send(conn, "RELEASE here")
        assert conn.scalar(statement, {"which": 1}) == "one"
        return heard

    (first, second) = kept.write(look)
    assert first.startswith("SELECT notes.word")
    assert second == "SAVEPOINT here"


def test_outside_of_a_transaction_one_begins(kept: Store) -> None:
    statement = Prepared(select(notes.c.word).where(notes.c.id == bindparam("which")))
    with kept.database._reader.connect() as conn:
        assert not conn.in_transaction()
        assert conn.scalar(statement, {"which": 1}) == "one"
        assert conn.in_transaction()


def test_what_is_compiled_does_not_grow_for_ever(kept: Store) -> None:
    statement = Prepared(select(func.count()).where(notes.c.id.in_(bindparam("listed", expanding=True))))

    def look(conn: Connection, now: float) -> None:
        for length in range(200):
            assert conn.scalar(statement, {"listed": list(range(length))}) == min(3, max(0, length - 1))

    kept.write(look)
    assert len(statement._made) <= 64


def everywhere() -> dict[str, Prepared]:
    """The prepared statements of the coordinator, by where they stand."""
    found: dict[str, Prepared] = {}
    for module in pkgutil.walk_packages(coordinator.__path__, "coordinator."):
        if module.name.endswith("__main__") or ".migrations." in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            several = value if isinstance(value, dict) else {"": value}
            for key, one in several.items():
                if isinstance(one, Prepared):
                    found[f"{module.name}.{name}{key or ''}"] = one
    return found


@pytest.mark.parametrize("name", sorted(everywhere()))
def test_each_of_the_coordinators_answers_as_it_would_by_the_usual_way(store: Store, name: str) -> None:
    prepared = everywhere()[name]

    def one(conn: Connection, now: float) -> None:
        compiled = prepared.statement.compile(dialect=conn.dialect)  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        assert not compiled.insert_prefetch, "a default that Python makes is not made here"
        assert not compiled.update_prefetch
        given = {bind.key: _some(bind) for bind in compiled.binds.values() if bind.required}
        said: list[tuple[list[str], Any]] = []
        for way in (prepared.statement, prepared):
            with conn.begin_nested() as undone:
                try:
                    result = conn.execute(way, given)
                    if compiled._result_columns:
                        said.append((list(result.keys()), result.all()))
                    else:
                        said.append(([], None if compiled.isinsert else result.rowcount))
                except sa.DBAPIError as error:
                    said.append(([], type(error)))
                undone.rollback()
        assert said[0] == said[1]

    store.write(one)


def _some(bind: Any) -> Any:
    kinds: dict[type, Any] = {str: "x", int: 1, float: 1.0, bool: True, bytes: b"x", object: 1}
    value = kinds[bind.type.python_type]
    return [value] if bind.expanding else value
