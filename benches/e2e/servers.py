"""The processes that a measurement needs, and the PostgreSQL that it has for itself. `poolers.py` has what stands in front.

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

    def certificate(self):
        """A certificate of its own for 127.0.0.1, and its key."""
        certificate, key = (os.path.join(self.home, name) for name in ("server.crt", "server.key"))
        if not os.path.exists(certificate):
            self.call("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", certificate)
            os.chmod(key, 0o600)
        return certificate, key

    def account_options(self):
        if not self.account:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def environment(self, tls=False):
        return {**os.environ, "PGPASSWORD": self.password, "HOME": self.home, "LC_ALL": "C",
                "PGSSLMODE": "require" if tls else "disable", "PGGSSENCMODE": "disable"}

    def call(self, *command, tls=False):
        """Runs a program of the account's to its end."""
        done = subprocess.run(command, cwd=self.home, env=self.environment(tls), capture_output=True, text=True,
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
            "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "ssl": "on",
        }
        certificate, key = workshop.certificate()
        settings.update({"ssl_cert_file": certificate, "ssl_key_file": key})
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # SIGINT is the fast shutdown, which does not wait for clients.
        self.process = workshop.spawn("postgresql", [program("postgres"), "-D", data, *options], signal.SIGINT)
        self.process.wait_for(lambda: self.answers("postgres"))
        self.workshop.call(program("createdb"), *self.address(), DATABASE)
        self.workshop.call(program("pgbench"), *self.address(), "-i", "-q", "-s", str(scale), DATABASE)
        # What COPY in fills, and nobody reads; a temporary table would pin its client.
        self.workshop.call(program("psql"), "-X", *self.address(), "-c", "CREATE UNLOGGED TABLE sink (line text)", DATABASE)

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
