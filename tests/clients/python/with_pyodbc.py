"""psqlodbc through pyodbc: statements prepared by the server, cursors by DECLARE and FETCH, savepoints of its own."""

import glob

import pyodbc

from own import HOST, PASSWORD, PORT, USER, database, threads

ROUNDS = 15
# By its path: without an odbcinst.ini that names it.
DRIVER, = glob.glob("/usr/lib/*/odbc/psqlodbcw.so")


def connect(own, mode, autocommit=False, **more):
    """`pqopt` is what psqlodbc hands to libpq, and `Protocol=7.4-2` a savepoint around each statement."""
    options = {"Driver": DRIVER, "Servername": HOST, "Port": PORT, "Username": USER, "Password": PASSWORD,
               "Database": database(mode), "SSLmode": "disable", "UseServerSidePrepare": 1, "Protocol": "7.4-2",
               "pqopt": "{application_name=" + own.name + " options='-c TimeZone=" + own.zone
                        + " -c search_path=" + own.schema + "'}", **more}
    return pyodbc.connect(";".join(f"{key}={value}" for key, value in options.items()), autocommit=autocommit)


def settings(own, link):
    got = link.execute("SELECT current_setting('TimeZone'), current_setting('application_name'),"
                       " current_schema()::text").fetchone()
    own.same(tuple(got), (own.zone, own.name, own.schema), "settings")


def transactions(own, link, turn):
    number = (own.number + turn) % 10
    got = link.execute("SELECT id, value FROM own WHERE id = ?", number).fetchone()
    own.same(tuple(got), (number, own.value(number)), "a prepared statement")
    cursor = link.cursor()
    cursor.execute("INSERT INTO own VALUES (?, ?)", 100 + turn, own.value(turn))
    try:
        cursor.execute("INSERT INTO own VALUES (?, ?)", 100 + turn, "twice")
    except pyodbc.IntegrityError:
        own.checks += 1
    # psqlodbc has gone back to its savepoint.
    settings(own, link)
    link.commit()
    cursor.executemany("INSERT INTO own VALUES (?, ?)", [(500 + i, "many") for i in range(20)])
    own.same(link.execute("SELECT count(*) FROM own WHERE value = ?", "many").fetchval(), 20, "executemany")
    link.rollback()
    own.same(link.execute("SELECT count(*) FROM own").fetchval(), 11 + turn, "after a rollback")
    link.commit()


def catalogue(own, link):
    found = {(row.table_schem, row.table_name) for row in link.cursor().tables(schema=own.schema)}
    own.same(found, {(own.schema, "own")}, "SQLTables")
    found = [row.column_name for row in link.cursor().columns(table="own", schema=own.schema)]
    own.same(found, ["id", "value"], "SQLColumns")
    found = [row.column_name for row in link.cursor().primaryKeys("own", schema=own.schema)]
    own.same(found, ["id"], "SQLPrimaryKeys")
    link.commit()


def fetched(own):
    """DECLARE and FETCH in place of whole results."""
    link = connect(own, "transaction", UseDeclareFetch=1, Fetch=7)
    for _ in range(5):
        got = link.execute("SELECT ?::text || i FROM generate_series(1, 40) i", own.name).fetchall()
        own.same([row[0] for row in got], [f"{own.name}{i}" for i in range(1, 41)], "a fetched cursor")
        settings(own, link)
        link.commit()
    link.close()


def autocommit(own, mode):
    link = connect(own, mode, autocommit=True)
    for turn in range(ROUNDS):
        number = (own.number + turn) % 10
        got = link.execute("SELECT value FROM own WHERE id = ?", number).fetchval()
        own.same(got, own.value(number), mode)
        settings(own, link)
    link.close()


def client(own):
    link = connect(own, "transaction", autocommit=True)
    for statement in own.statements():
        link.execute(statement)
    link.close()
    link = connect(own, "transaction")
    for turn in range(ROUNDS):
        transactions(own, link, turn)
        if turn % 5 == 0:
            catalogue(own, link)
    link.close()
    fetched(own)
    autocommit(own, "transaction")
    if own.number < 4:
        autocommit(own, "session")


if __name__ == "__main__":
    threads("pyodbc", client)
