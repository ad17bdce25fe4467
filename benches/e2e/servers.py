"""The processes that a measurement needs: a PostgreSQL of its own and the poolers in front of it.

Everything listens on the loopback interface, is a direct child of this process, and is ended by the kernel should
this process die without having ended it.
"""

import ctypes
import glob
import os
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import time

DATABASE = "bench"
USER = "bench"

# PR_SET_PDEATHSIG of <sys/prctl.h>.
PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """Something without which nothing can be measured."""


def free_port():
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ordinary_user():
    """Whom PostgreSQL and the poolers run as: this user, or `postgres` where this is root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError as error:
        raise Failure("run as root, this needs the account `postgres`") from error


def programs():
    """The folder of PostgreSQL's server programs."""
    found = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False) \
        if shutil.which("pg_config") else None
    folders = [found.stdout.strip()] if found and found.returncode == 0 else []
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    for folder in folders:
        if os.path.exists(os.path.join(folder, "initdb")) and os.path.exists(os.path.join(folder, "pgbench")):
            return folder
    raise Failure("no PostgreSQL server with pgbench: scripts/postgresql-programs installs one")


class Workshop:
    """A folder, an account, a password, and the processes that were started in it."""

    def __init__(self, folder):
        self.folder = folder
        self.account = ordinary_user()
        self.password = secrets.token_hex(16)
        self.bin = programs()
        os.chmod(folder, 0o755)
        self.home = self.path("home")
        os.mkdir(self.home, 0o755)
        self.own(self.home)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def program(self, name):
        return os.path.join(self.bin, name)

    def own(self, path):
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def write(self, name, text):
        """A file that the account may read and nobody else."""
        path = os.path.join(self.home, name)
        with open(path, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(text)
        self.own(path)
        return path

    def account_options(self):
        if not self.account:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def environment(self):
        return {**os.environ, "PGPASSWORD": self.password, "HOME": self.home, "LC_ALL": "C"}

    def call(self, *command):
        """Runs a program of the account's to its end."""
        done = subprocess.run(command, cwd=self.home, env=self.environment(), capture_output=True, text=True,
                              timeout=120, check=False, **self.account_options())
        if done.returncode != 0:
            raise Failure(f"{shlex.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def spawn(self, name, command, end=signal.SIGTERM):
        return Process(self, name, command, end)


class Process:
    """A server that runs until it is stopped."""

    def __init__(self, workshop, name, command, end):
        self.name, self.end = name, end
        self.log = workshop.path(f"{name}.log")
        libc = ctypes.CDLL(None)
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(  # pylint: disable=consider-using-with
                command, cwd=workshop.home, env=workshop.environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, int(end)), **workshop.account_options())
        self.pid = self.child.pid

    def words(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:]

    def wait_for(self, ready):
        deadline = time.monotonic() + 20
        while not ready():
            if self.child.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"{self.name} did not start:\n{self.words()}")
            time.sleep(0.05)

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(self.end)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class PostgreSQL:
    """A throwaway cluster. It need not survive a crash, so nothing waits for the disk."""

    def __init__(self, workshop, connections, scale):
        self.workshop, self.port = workshop, free_port()
        data = workshop.path("home", "data")
        secret = workshop.write("pw", workshop.password)
        program = workshop.program
        workshop.call(program("initdb"), "-D", data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}",
                      "--no-sync", "--locale=C", "--encoding=UTF8")
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": workshop.home,
            "max_connections": connections, "shared_buffers": "256MB", "fsync": "off",
            "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # SIGINT is the fast shutdown, which does not wait for clients.
        self.process = workshop.spawn("postgresql", [program("postgres"), "-D", data, *options], signal.SIGINT)
        self.process.wait_for(lambda: self.answers("postgres"))
        self.workshop.call(program("createdb"), *self.address(), DATABASE)
        self.workshop.call(program("pgbench"), *self.address(), "-i", "-q", "-s", str(scale), DATABASE)

    def address(self):
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER]

    def answers(self, database):
        try:
            self.workshop.call(self.workshop.program("psql"), "-X", *self.address(), "-c", "SELECT 1",
                               database)
        except Failure:
            return False
        return True

    def version(self):
        return self.workshop.call(self.workshop.program("postgres"), "--version").strip()

    def stop(self):
        self.process.stop()


def server_host(workshop, transport):
    return workshop.home if transport == "unix" else "127.0.0.1"


class Setting:
    """What a pooler is started with."""

    def __init__(self, workshop, server, transport, pool):
        self.workshop, self.pool = workshop, pool
        self.host, self.server_port = server_host(workshop, transport), server.port


def firepool(setting, name, binary, workers):
    """firepool with so many workers."""
    port = free_port()
    config = setting.workshop.write(f"{name}.toml", f"""
[proxy]
listen = ["127.0.0.1:{port}"]
workers = {workers}
max_clients = 5000
[admin]
listen = ""
[log]
filter = "warn"
[timeouts]
query_wait = "60s"
[targets.main]
host = "{setting.host}"
port = {setting.server_port}
[users.{USER}]
password = "{setting.workshop.password}"
[[routes]]
database = "{DATABASE}"
mode = "transaction"
pool_size = {setting.pool}
""")
    return port, setting.workshop.spawn(name, [binary, "serve", "--config", config])


def pgbouncer(setting, name, binary):
    """PgBouncer, in transaction mode and otherwise as it comes."""
    port = free_port()
    users = setting.workshop.write(f"{name}.users", f'"{USER}" "{setting.workshop.password}"\n')
    config = setting.workshop.write(f"{name}.ini", f"""
[databases]
{DATABASE} = host={setting.host} port={setting.server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {setting.pool}
max_client_conn = 5000
log_connections = 0
log_disconnections = 0
""")
    return port, setting.workshop.spawn(name, [binary, "-q", config])


def peer(setting, name, command, template):
    """Any other pooler: `command` and its configuration `template` with their {fields} filled in."""
    port = free_port()
    fields = {
        "port": port, "server_host": setting.host, "server_port": setting.server_port, "database": DATABASE,
        "user": USER, "password": setting.workshop.password, "pool": setting.pool, "dir": setting.workshop.home,
    }

    def fill(text):
        # Not str.format: configuration files have braces of their own.
        for key, value in fields.items():
            text = text.replace("{" + key + "}", str(value))
        return text

    if template:
        with open(template, encoding="utf-8") as file:
            suffix = os.path.splitext(template)[1]
            fields["config"] = setting.workshop.write(f"{name}{suffix}", fill(file.read()))
    return port, setting.workshop.spawn(name, [fill(word) for word in shlex.split(command)])


def find_pgbouncer():
    """Debian's package; installed if it is missing and this may install it."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    if not shutil.which("pgbouncer", path=path) and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing the package pgbouncer", flush=True)
        # The package would start a server of its own on port 6432; policy-rc.d is how Debian is told not to.
        policy = "/usr/sbin/policy-rc.d"
        mine = not os.path.exists(policy)
        if mine:
            with open(policy, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o755)) as file:
                file.write("#!/bin/sh\nexit 101\n")
        try:
            subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "pgbouncer"], check=False,
                           stdout=subprocess.DEVNULL, timeout=300,
                           env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        finally:
            if mine:
                os.unlink(policy)
    found = shutil.which("pgbouncer", path=path)
    if not found:
        raise Failure("pgbouncer is missing: apt-get install pgbouncer, or --without-pgbouncer")
    return found
