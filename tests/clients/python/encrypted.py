"""psycopg 3 and asyncpg over TLS: the server's certificate is verified; psycopg binds SCRAM to the channel."""

import asyncio
import os
import ssl

import asyncpg
import psycopg

PORT, USER, PASSWORD = os.environ["PGPORT"], os.environ["PGUSER"], os.environ["PGPASSWORD"]
CA, OTHER_CA, DATABASE = os.environ["CLIENTS_CA"], os.environ["CLIENTS_OTHER_CA"], os.environ["CLIENTS_TRANSACTION"]
ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
checks = 0


def check(right, what):
    global checks
    checks += 1
    if not right:
        raise SystemExit(f"wrong: {what}")


def connect(**more):
    words = {"host": "localhost", "port": PORT, "user": USER, "password": PASSWORD, "dbname": DATABASE,
             "sslmode": "verify-full", "sslrootcert": CA, "channel_binding": "require", **more}
    return psycopg.connect(**words, autocommit=True, prepare_threshold=1)


def refused(what, **more):
    try:
        connect(**more).close()
    except psycopg.OperationalError as error:
        check(what in str(error), f"{more}: {error}")
    else:
        check(False, f"{more}: let in")


def with_psycopg():
    for binding in ["require", "prefer", "disable"]:
        with connect(channel_binding=binding) as link:
            check(link.pgconn.ssl_in_use, "not encrypted")
            check(link.execute(ENCRYPTED).fetchone() == (True,), "the other leg")
            for length in [1, 70_000, 3_000_000]:
                got = link.execute("SELECT repeat('x', %s::int), md5(%s::text)", [length, "y" * length]).fetchone()
                check(len(got[0]) == length, f"{length} bytes")
    refused("certificate verify failed", sslrootcert=OTHER_CA)
    refused("password authentication failed", password="wrong")


async def with_asyncpg():
    trusts = ssl.create_default_context(cafile=CA)
    words = {"host": "localhost", "port": int(PORT), "user": USER, "database": DATABASE}
    link = await asyncpg.connect(**words, password=PASSWORD, ssl=trusts)
    check(await link.fetchval(ENCRYPTED) is True, "the other leg")
    check(await link.fetchval("SELECT length($1)", "z" * 200_000) == 200_000, "a long parameter")
    await link.close()
    try:
        await asyncpg.connect(**words, password=PASSWORD, ssl=ssl.create_default_context(cafile=OTHER_CA))
        check(False, "another authority")
    except ssl.SSLCertVerificationError:
        check(True, "")
    try:
        await asyncpg.connect(**words, password="wrong", ssl=trusts)
        check(False, "another password")
    except asyncpg.InvalidPasswordError:
        check(True, "")


with_psycopg()
asyncio.run(with_asyncpg())
print(f"ok {checks} checks")
