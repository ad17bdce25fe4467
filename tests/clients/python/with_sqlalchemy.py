"""SQLAlchemy over psycopg and over asyncpg: pools, reflection, transactions, savepoints, the ORM, bulk inserts."""

import asyncio
import sys

import sqlalchemy as sa
from sqlalchemy import exc, orm
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from own import HOST, PASSWORD, PORT, USER, database, tasks, threads

ROUNDS = 12
SETTINGS = sa.text("SELECT current_setting('TimeZone'), current_setting('application_name'), current_schema()")


class Base(orm.DeclarativeBase):
    """What the mapped classes have in common."""


class Author(Base):
    """Has books."""

    __tablename__ = "author"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(40), unique=True)
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    """Has one author."""

    __tablename__ = "book"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    tags: orm.Mapped[list[str]] = orm.mapped_column(sa.ARRAY(sa.Text))
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("author.id"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


def url(driver, mode):
    return sa.URL.create(f"postgresql+{driver}", USER, PASSWORD, HOST, PORT, database(mode))


def arguments(own):
    return {"application_name": own.name, "options": f"-c TimeZone={own.zone} -c search_path={own.schema}"}


def settings(own, link):
    own.same(tuple(link.execute(SETTINGS).one()), (own.zone, own.name, own.schema), "settings")


def mapped(own, session, turn):
    author = Author(name=own.value(turn), books=[Book(title=f"{own.name}/{i}", tags=[own.name, str(i)])
                                                 for i in range(5)])
    session.add(author)
    session.commit()
    found = session.scalars(sa.select(Author).where(Author.name == own.value(turn))
                            .options(orm.selectinload(Author.books))).one()
    own.same([book.title for book in found.books], [f"{own.name}/{i}" for i in range(5)], "the ORM")
    own.same(found.books[2].tags, [own.name, "2"], "an array")
    session.execute(sa.insert(Book), [{"title": "bulk", "tags": [], "author_id": found.id} for _ in range(100)])
    # pylint: disable-next=not-callable
    count = sa.select(sa.func.count()).select_from(Book).where(Book.author_id == found.id)
    own.same(session.scalar(count), 105, "insertmanyvalues")
    try:
        with session.begin_nested():
            session.add(Author(name=own.value(turn)))
            session.flush()
    except exc.IntegrityError:
        own.checks += 1
    own.same(session.scalar(count), 105, "after a savepoint")
    session.rollback()
    own.same(session.scalar(count), 5, "after a rollback")
    session.commit()


def reflected(own, link):
    """The catalogue's statements are long, and the same for every client: only the search path tells them apart."""
    found = sa.inspect(link)
    own.same(found.default_schema_name, own.schema, "the schema")
    own.same(sorted(found.get_table_names()), ["author", "book", "own"], "the tables")
    own.same([column["name"] for column in found.get_columns("book")], ["id", "title", "tags", "author_id"], "columns")
    own.same([key["referred_table"] for key in found.get_foreign_keys("book")], ["author"], "foreign keys")
    own.same([key["column_names"] for key in found.get_unique_constraints("author")], [["name"]], "constraints")
    again = sa.MetaData()
    again.reflect(link)
    own.same(sorted(again.tables), ["author", "book", "own"], "reflection")


def streamed(own, link):
    got = link.execution_options(stream_results=True, yield_per=10).execute(
        sa.text("SELECT :name || i FROM generate_series(1, 45) i"), {"name": own.name})
    own.same([row[0] for row in got], [f"{own.name}{i}" for i in range(1, 46)], "a stream")


def client(own):
    bare = sa.create_engine(url("psycopg", "transaction"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with bare.connect() as link:
        for statement in own.statements():
            link.exec_driver_sql(statement)
    engine = sa.create_engine(url("psycopg", "transaction"), pool_size=2, pool_pre_ping=True,
                              connect_args=arguments(own) | {"prepare_threshold": 1})
    Base.metadata.create_all(engine)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    for turn in range(ROUNDS):
        with engine.connect() as link:
            settings(own, link)
        with orm.Session(engine) as session:
            mapped(own, session, turn)
        with engine.begin() as link:
            streamed(own, link)
        if turn % 4 == 0:
            with engine.connect() as link:
                reflected(own, link)
    serializable = engine.execution_options(isolation_level="SERIALIZABLE")
    with serializable.connect() as link:
        own.same(link.scalar(sa.text("SHOW transaction_isolation")), "serializable", "an isolation level")
    # Looking for hstore, SQLAlchemy opens a transaction, which statement mode refuses.
    statement = sa.create_engine(url("psycopg", "statement"), isolation_level="AUTOCOMMIT", pool_size=1,
                                 use_native_hstore=False, connect_args=arguments(own))
    for _ in range(ROUNDS):
        with statement.connect() as link:
            settings(own, link)
    statement.dispose()
    engine.dispose()


async def asynchronous(own):
    """The same over asyncpg, where every statement is named."""
    bare = create_async_engine(url("asyncpg", "transaction"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    async with bare.connect() as link:
        for statement in own.statements():
            await link.exec_driver_sql(statement)
    engine = create_async_engine(
        url("asyncpg", "transaction"), pool_size=2, pool_pre_ping=True,
        connect_args={"server_settings": {"application_name": own.name, "TimeZone": own.zone,
                                          "search_path": own.schema}, "ssl": False})
    async with engine.begin() as link:
        await link.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(engine)
    for turn in range(ROUNDS):
        async with engine.connect() as link:
            await link.run_sync(lambda one: settings(own, one))
        async with sessions() as session:
            await session.run_sync(lambda one, t=turn: mapped(own, one, t))
        async with engine.begin() as link:
            await link.run_sync(lambda one: streamed(own, one))
        if turn % 4 == 0:
            async with engine.connect() as link:
                await link.run_sync(lambda one: reflected(own, one))
    await engine.dispose()


if __name__ == "__main__":
    if sys.argv[1] == "psycopg":
        threads("sa_psycopg", client)
    else:
        asyncio.run(tasks("sa_asyncpg", asynchronous))
