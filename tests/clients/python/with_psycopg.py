"""psycopg 3: statements that it names after their first use, pipelines, server cursors, COPY, LISTEN, cancel."""

import threading

import psycopg
from psycopg import errors

from own import HOST, PASSWORD, PORT, USER, database, threads

ROUNDS = 30


def connect(own, mode, **more):
    return psycopg.connect(
        host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=database(mode), application_name=own.name,
        options=f"-c TimeZone={own.zone} -c search_path={own.schema}", prepare_threshold=1, **more)


def row(link, number):
    return link.execute("SELECT id, value FROM own WHERE id = %s", [number]).fetchone()


def settings(own, link, zone=None):
    """In one statement, so that in autocommit all are of the same server connection."""
    got = link.execute("SELECT current_setting('TimeZone'), current_setting('application_name'), current_schema()")
    own.same(got.fetchone(), (zone or own.zone, own.name, own.schema), "settings")


def named(own, link, turn):
    """The same texts again and again; other types and another format of the results are other statements."""
    number = (own.number + turn) % 10
    own.same(row(link, number), (number, own.value(number)), "a named statement")
    got = link.execute("SELECT %s::int + %s, %s::text", [turn, own.number, own.name], binary=turn % 2 == 0).fetchone()
    own.same(got, (turn + own.number, own.name), "parameters")
    got = link.execute(f"SELECT {turn} AS turn, %s::text", [own.name]).fetchone()
    own.same(got, (turn, own.name), "a text of its own")


def transactions(own, link, turn):
    """One that commits, one that fails, and one with a savepoint."""
    with link.transaction():
        link.execute("INSERT INTO own VALUES (%s, %s)", [100 + turn, own.value(100 + turn)])
        settings(own, link)
        link.execute("SELECT set_config('TimeZone', %s, true)", [own.other_zone(turn)])
        settings(own, link, own.other_zone(turn))
    settings(own, link)
    try:
        with link.transaction():
            link.execute("DELETE FROM own WHERE id = %s", [100 + turn])
            link.execute(f"SET TimeZone TO '{own.other_zone(turn)}'")
            link.execute("SELECT 1 / %s", [0])
    except errors.DivisionByZero:
        own.checks += 1
    settings(own, link)
    own.same(row(link, 100 + turn), (100 + turn, own.value(100 + turn)), "after a rollback")
    with link.transaction():
        try:
            with link.transaction():
                link.execute("INSERT INTO own VALUES (%s, %s)", [100 + turn, "twice"])
        except errors.UniqueViolation:
            own.checks += 1
        own.same(row(link, 3), (3, own.value(3)), "after a savepoint")


def pipelines(own, link, turn):
    with link.pipeline():
        found = [link.execute("SELECT id, value FROM own WHERE id = %s", [number]) for number in range(10)]
        sums = [link.execute("SELECT %s::int + %s", [turn, number]) for number in range(5)]
        own.same([cursor.fetchone() for cursor in found], [(n, own.value(n)) for n in range(10)], "a pipeline")
        own.same([cursor.fetchone() for cursor in sums], [(turn + n,) for n in range(5)], "a pipeline's sums")
    try:
        with link.pipeline():
            link.execute("SELECT id, value FROM own WHERE id = %s", [1])
            link.execute("SELECT 1 / %s", [0])
            link.execute("SELECT id, value FROM own WHERE id = %s", [2])
    except errors.DivisionByZero:
        own.checks += 1
    link.rollback()
    settings(own, link)


def cursors(own, link, turn):
    with link.transaction():
        with link.cursor(name=f"c{own.number}") as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT %s || i FROM generate_series(1, 30) i", [own.name])
            own.same([got for got, in cursor], [f"{own.name}{i}" for i in range(1, 31)], "a server cursor")
    if turn == 0:
        with link.cursor(name="held", withhold=True) as cursor:
            cursor.execute("SELECT %s || i FROM generate_series(1, 10) i", [own.name])
            link.commit()
            own.same(cursor.fetchmany(3), [(f"{own.name}{i}",) for i in (1, 2, 3)], "a cursor WITH HOLD")
            link.commit()
            own.same(len(cursor.fetchall()), 7, "the rest of a cursor WITH HOLD")
        link.commit()


def copies(own, link, turn):
    with link.transaction():
        link.execute("CREATE TABLE copied (id int, value text)")
        with link.cursor() as cursor:
            with cursor.copy("COPY copied FROM STDIN") as copy:
                for number in range(200):
                    copy.write_row((number, own.value(number)))
            with cursor.copy("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
                copy.set_types(["int4", "text"])
                own.same(list(copy.rows()), [(n, own.value(n)) for n in range(200)], f"COPY in round {turn}")
        # The next round's table has another oid: a plan of this one's must not be used.
        own.same(link.execute("SELECT count(*) FROM copied").fetchone(), (200,), "what was copied")
        link.execute("DROP TABLE copied")
    try:
        with link.transaction(), link.cursor() as cursor, cursor.copy("COPY own FROM STDIN") as copy:
            copy.write_row((1, "there is one already"))
    except errors.UniqueViolation:
        own.checks += 1


def definitions(own, link):
    """A named statement whose table changes under it."""
    link.execute("CREATE TABLE changing (a int)")
    link.execute("INSERT INTO changing VALUES (1)")
    link.commit()
    for column in "bcd":
        for _ in range(3):
            found = link.execute("SELECT * FROM changing").fetchone()
            link.commit()
        link.execute(f"ALTER TABLE changing ADD COLUMN {column} int DEFAULT 2")
        link.commit()
        expected = (1,) + (2,) * (ord(column) - ord("b"))
        own.same(found, expected, "a changing table")
    link.execute("DROP TABLE changing")
    link.commit()


def forgotten(own):
    """More texts than psycopg keeps prepared: it closes the oldest, over and over."""
    with connect(own, "transaction", autocommit=True) as link:
        link.prepared_max = 3
        for turn in range(60):
            got = link.execute(f"SELECT %s::text || '{turn % 8}'", [own.name]).fetchone()
            own.same(got, (f"{own.name}{turn % 8}",), "a statement that was forgotten")
            if turn == 40:
                link.execute("DEALLOCATE ALL")


def batches(own, link, turn):
    with link.cursor() as cursor:
        cursor.executemany("INSERT INTO own VALUES (%s, %s) RETURNING id",
                           [(1000 + i, own.value(i)) for i in range(20)], returning=True)
        got = [cursor.fetchone()[0]]
        while cursor.nextset():
            got.append(cursor.fetchone()[0])
    own.same(got, list(range(1000, 1020)), f"executemany in round {turn}")
    link.rollback()


def cancels(own, link):
    """A client cancels its own statement, and nobody else's."""
    try:
        with link.cursor() as cursor:
            timer = threading.Timer(0.1, link.cancel_safe)
            timer.start()
            cursor.execute("SELECT pg_sleep(20)")
        raise AssertionError("the sleep was not cancelled")
    except errors.QueryCanceled:
        own.checks += 1
    timer.join()
    link.rollback()
    settings(own, link)


def autocommit(own, mode):
    """Statement mode has no more than this: every statement is a transaction."""
    with connect(own, mode, autocommit=True) as link:
        for turn in range(ROUNDS):
            named(own, link, turn)
            settings(own, link)
        try:
            link.execute("SELECT 1 / %s", [0])
        except errors.DivisionByZero:
            own.checks += 1
        with link.pipeline():
            got = [link.execute("SELECT %s::text", [own.value(i)]) for i in range(10)]
            own.same([c.fetchone()[0] for c in got], [own.value(i) for i in range(10)], "a pipeline in autocommit")


def listens(own):
    with connect(own, "listen", autocommit=True) as link:
        link.execute(f"LISTEN {own.schema}")
        for turn in range(10):
            link.execute("SELECT pg_notify(%s, %s)", [own.schema, own.value(turn)])
        got = [note.payload for note in link.notifies(timeout=20, stop_after=10)]
        own.same(got, [own.value(turn) for turn in range(10)], "notifications")
        link.execute("UNLISTEN *")


def client(own):
    with psycopg.connect(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=database("transaction"),
                         autocommit=True) as link:
        for statement in own.statements():
            link.execute(statement)
    with connect(own, "transaction") as link:
        for turn in range(ROUNDS):
            named(own, link, turn)
            link.commit()
            transactions(own, link, turn)
            pipelines(own, link, turn)
            if turn % 5 == 0:
                cursors(own, link, turn)
                copies(own, link, turn)
                batches(own, link, turn)
        if own.number < 2:
            cancels(own, link)
        definitions(own, link)
    forgotten(own)
    autocommit(own, "transaction")
    autocommit(own, "statement")
    if own.number < 4:
        autocommit(own, "session")
        listens(own)


if __name__ == "__main__":
    threads("psycopg", client)
