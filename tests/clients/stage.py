"""What the drivers connect to: a cluster of its own, and firepool in front of it.

A program finds everything in its environment: PGHOST, PGPORT, PGUSER and PGPASSWORD, and in CLIENTS_TRANSACTION,
CLIENTS_SESSION, CLIENTS_STATEMENT and CLIENTS_LISTEN the databases that lead to the routes. Directly, all four are
the same.
"""

import os
import shutil
import urllib.request

import passes
from servers import free_port

USER = DATABASE = "clients"
ROUTES = ["transaction", "session", "statement", "listen"]


class Server:
    """PostgreSQL itself, with the role and the database of the clients."""

    name = "direct"

    def __init__(self, workshop):
        self.workshop = workshop
        self.port, self.process = passes.cluster(workshop, "clients")
        try:
            self.run(f"CREATE ROLE {USER} LOGIN PASSWORD '{workshop.password}'")
            self.run(f"CREATE DATABASE {DATABASE} OWNER {USER}")
            # Certificates that vouch for themselves: the server's and firepool's, and one of somebody else's.
            self.certificate, self.key = self.issue("server")
            self.other, _ = self.issue("other")
            for name, value in [("ssl_cert_file", self.certificate), ("ssl_key_file", self.key), ("ssl", "on")]:
                self.run(f"ALTER SYSTEM SET {name} = '{value}'")
            self.run("SELECT pg_reload_conf()")
        except BaseException:
            self.process.stop()
            raise

    def issue(self, name):
        paths = [self.workshop.path("home", f"{name}.{kind}") for kind in ["crt", "key"]]
        self.workshop.call("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                           f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-out", paths[0],
                           "-keyout", paths[1])
        return paths

    def run(self, statement):
        self.workshop.call(self.workshop.program("psql"), "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port),
                           "-U", passes.USER, "-c", statement, "postgres")

    def environment(self, port=None, routes=None):
        databases = {f"CLIENTS_{route.upper()}": (routes or {}).get(route, DATABASE) for route in ROUTES}
        return {"PGHOST": "127.0.0.1", "PGPORT": str(port or self.port), "PGUSER": USER,
                "PGPASSWORD": self.workshop.password, "PGDATABASE": DATABASE, "PGSSLMODE": "disable",
                "CLIENTS_CA": self.certificate, "CLIENTS_OTHER_CA": self.other, **databases}

    def complaint(self):
        """What is wrong with it after a program has run."""
        return "" if self.process.child.poll() is None else f"it has ended:\n{self.process.words()}"

    def remarks(self):
        return ""

    def stop(self, logs):
        self.process.stop()
        shutil.copy(self.process.log, logs)


class Pooler:
    """firepool, with a route for each mode to the same database, two server connections each where nothing pins."""

    name = "firepool"

    def __init__(self, workshop, server, binary, log):
        self.server, self.port, self.admin = server, free_port(), free_port()
        copy = shutil.copy(binary, workshop.path("firepool"))
        os.chmod(copy, 0o755)
        config = workshop.write("firepool.toml", self.config(workshop, log))
        self.process = workshop.spawn("firepool", [copy, "serve", "--config", config])
        try:
            self.process.wait_for(lambda: self.metrics() is not None)
        except BaseException:
            self.process.stop()
            raise
        self.seen = self.metrics()

    def config(self, workshop, log):
        text = f"""
[proxy]
listen = ["127.0.0.1:{self.port}"]
[admin]
listen = "127.0.0.1:{self.admin}"
[log]
filter = "{log}"
[tls]
certificate = "{self.server.certificate}"
key = "{self.server.key}"
[timeouts]
query_wait = "30s"
[targets.main]
host = "localhost"
port = {self.server.port}
sslmode = "verify-full"
sslrootcert = "{self.server.certificate}"
[users.{USER}]
password = "{workshop.password}"
"""
        # Drivers compare the name of the database that they asked for with the catalogue's: the route that most
        # of them use has the same. A client that listens may keep a server connection: "listen" has room for them.
        for database, mode, size in [(DATABASE, "transaction", 2), ("clients_session", "session", 4),
                                     ("clients_statement", "statement", 2), ("clients_listen", "transaction", 8)]:
            text += f"""
[[routes]]
database = "{database}"
target_database = "{DATABASE}"
mode = "{mode}"
pool_size = {size}
"""
        return text

    def environment(self):
        routes = {route: f"clients_{route}" for route in ROUTES if route != "transaction"}
        return self.server.environment(self.port, routes)

    def metrics(self):
        """Reason -> how many clients were pinned for it, so far."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        found = {}
        for line in lines:
            if line.startswith("firepool_pins_total{"):
                labels, _, value = line.rpartition(" ")
                reason = labels.partition('reason="')[2].partition('"')[0]
                found[reason] = found.get(reason, 0) + int(float(value))
        return found

    def remarks(self):
        """Which pins the last program caused: each of them costs the others a server connection."""
        before, self.seen = self.seen, self.metrics() or {}
        new = {reason: count - before.get(reason, 0) for reason, count in self.seen.items()}
        pins = ", ".join(f"{reason} {count}" for reason, count in sorted(new.items()) if count)
        return f"  pins: {pins}" if pins else ""

    def complaint(self):
        if self.process.child.poll() is not None:
            return f"it has ended:\n{self.process.words()}"
        return "a thread of it panicked" if "panicked at" in self.process.words() else ""

    def stop(self, logs):
        self.process.stop()
        shutil.copy(self.process.log, logs)

