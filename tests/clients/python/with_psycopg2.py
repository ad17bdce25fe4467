"""psycopg2: simple queries, transactions that begin by themselves, named cursors, COPY, large objects, LISTEN."""

import io
import select

import psycopg2
from psycopg2 import errors, extensions, extras

from own import HOST, PASSWORD, PORT, USER, database, threads

ROUNDS = 30


def connect(own, mode):
    return psycopg2.connect(
        host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=database(mode), application_name=own.name,
        options=f"-c TimeZone={own.zone} -c search_path={own.schema}")


def one(link, text, values=None):
    with link.cursor() as cursor:
        cursor.execute(text, values)
        return cursor.fetchone()


def settings(own, link, zone=None):
    got = one(link, "SELECT current_setting('TimeZone'), current_setting('application_name'), current_schema()")
    own.same(got, (zone or own.zone, own.name, own.schema), "settings")


def transactions(own, link, turn):
    number = (own.number + turn) % 10
    own.same(one(link, "SELECT id, value FROM own WHERE id = %s", [number]), (number, own.value(number)), "a row")
    with link.cursor() as cursor:
        cursor.execute("INSERT INTO own VALUES (%s, %s)", [100 + turn, own.value(turn)])
        cursor.execute("SAVEPOINT s")
        try:
            cursor.execute("INSERT INTO own VALUES (%s, %s)", [100 + turn, "twice"])
        except errors.UniqueViolation:
            cursor.execute("ROLLBACK TO SAVEPOINT s")
            own.checks += 1
        settings(own, link)
    link.commit()
    try:
        with link, link.cursor() as cursor:
            cursor.execute("SET TimeZone TO %s", [own.other_zone(turn)])
            cursor.execute("DELETE FROM own; SELECT 1 / 0")
    except errors.DivisionByZero:
        own.checks += 1
    settings(own, link)
    own.same(one(link, "SELECT count(*) FROM own"), (11 + turn,), "after a rollback")
    link.commit()


def session(own, link, turn):
    """What it sets for a connection: encoding, isolation, read only."""
    link.set_client_encoding("LATIN1" if turn % 2 else "UTF8")
    own.same(one(link, "SELECT %s::text, current_setting('client_encoding')", ["Grüße"]),
             ("Grüße", "LATIN1" if turn % 2 else "UTF8"), "an encoding")
    link.rollback()
    link.set_session(isolation_level="SERIALIZABLE", readonly=True)
    own.same(one(link, "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"),
             ("serializable", "on"), "a transaction's properties")
    link.rollback()
    link.set_session(isolation_level="DEFAULT", readonly=False)
    link.autocommit = True
    # In autocommit these are settings of the session.
    link.set_session(readonly=True)
    own.same(one(link, "SHOW default_transaction_read_only"), ("on",), "read only")
    try:
        one(link, "INSERT INTO own VALUES (999, 'not here') RETURNING id")
        raise AssertionError("it was not read only")
    except errors.ReadOnlySqlTransaction:
        own.checks += 1
    link.set_session(readonly=False)
    own.same(one(link, "SHOW default_transaction_read_only"), ("off",), "read and write")
    link.autocommit = False


def cursors(own, link, turn):
    with link.cursor(name=f"c{turn}") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT %s || i FROM generate_series(1, 30) i", [own.name])
        own.same([got for got, in cursor], [f"{own.name}{i}" for i in range(1, 31)], "a named cursor")
    link.commit()
    if turn == 0:
        cursor = link.cursor(name="held", withhold=True, scrollable=True)
        cursor.execute("SELECT %s || i FROM generate_series(1, 10) i", [own.name])
        link.commit()
        own.same(cursor.fetchmany(3), [(f"{own.name}{i}",) for i in (1, 2, 3)], "a cursor WITH HOLD")
        cursor.scroll(-1)
        link.commit()
        own.same(cursor.fetchone(), (f"{own.name}3",), "a cursor WITH HOLD, backwards")
        cursor.close()
        link.commit()


def copies(own, link):
    with link.cursor() as cursor:
        cursor.execute("CREATE TABLE copied (id int, value text)")
        lines = "".join(f"{i}\t{own.value(i)}\n" for i in range(300))
        cursor.copy_expert("COPY copied FROM STDIN", io.StringIO(lines))
        target = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT", target)
        own.same(target.getvalue(), lines, "COPY")
        extras.execute_values(cursor, "INSERT INTO copied VALUES %s", [(i, "more") for i in range(150)])
        own.same(one(link, "SELECT count(*) FROM copied"), (450,), "execute_values")
        extras.execute_batch(cursor, "INSERT INTO copied VALUES (%s, %s)", [(i, "batch") for i in range(50)])
    link.rollback()


def large_objects(own, link):
    """lo_open and so on, by the protocol's function calls."""
    large = link.lobject(0, "wb")
    large.write(own.name.encode() * 100)
    number = large.oid
    large.close()
    link.commit()
    large = link.lobject(number, "rb")
    own.same(large.read(), own.name.encode() * 100, "a large object")
    large.unlink()
    link.commit()


def two_phases(own, link, turn):
    link.tpc_begin(link.xid(1, f"{own.name}-{turn}", own.name))
    one(link, "INSERT INTO own VALUES (%s, 'prepared') RETURNING id", [5000 + turn])
    link.tpc_prepare()
    link.tpc_rollback()
    own.same(one(link, "SELECT count(*) FROM own WHERE id >= 5000"), (0,), "a prepared transaction, undone")
    link.commit()


def temporary(own, link):
    """A temporary table across transactions: the client is to keep what it is in."""
    with link.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE mine AS SELECT %s AS name", [own.name])
        link.commit()
        for _ in range(3):
            own.same(one(link, "SELECT name FROM mine"), (own.name,), "a temporary table")
            link.commit()
        cursor.execute("DROP TABLE mine")
        link.commit()
        cursor.execute("DISCARD TEMP")
        link.commit()


def autocommit(own, mode):
    link = connect(own, mode)
    link.autocommit = True
    for turn in range(ROUNDS):
        number = (own.number + turn) % 10
        own.same(one(link, "SELECT value FROM own WHERE id = %s", [number]), (own.value(number),), mode)
        settings(own, link)
    link.close()


def listens(own):
    link = connect(own, "listen")
    link.set_isolation_level(extensions.ISOLATION_LEVEL_AUTOCOMMIT)
    with link.cursor() as cursor:
        cursor.execute(f"LISTEN {own.schema}")
        for turn in range(10):
            cursor.execute("SELECT pg_notify(%s, %s)", [own.schema, own.value(turn)])
    while len(link.notifies) < 10 and select.select([link], [], [], 20)[0]:
        link.poll()
    own.same([note.payload for note in link.notifies], [own.value(turn) for turn in range(10)], "notifications")
    link.close()


def client(own):
    link = psycopg2.connect(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=database("transaction"))
    with link, link.cursor() as cursor:
        cursor.execute(";".join(own.statements()))
    link.close()
    link = connect(own, "transaction")
    for turn in range(ROUNDS):
        transactions(own, link, turn)
        if turn % 5 == 0:
            session(own, link, turn)
            cursors(own, link, turn)
            copies(own, link)
            large_objects(own, link)
    if own.number < 2:
        two_phases(own, link, 1)
    temporary(own, link)
    link.reset()
    settings(own, link)
    link.close()
    autocommit(own, "transaction")
    autocommit(own, "statement")
    if own.number < 4:
        autocommit(own, "session")
        listens(own)


if __name__ == "__main__":
    threads("psycopg2", client)
