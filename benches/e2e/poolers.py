"""How to start each pooler: the ones that are found, and any binary that is named with its kind.

A kind is a configuration and a command. Those of pgcat, odyssey, pgdog and pg_doorman follow their documentation: this
repository neither has nor builds them.
"""

import hashlib
import os
import shlex
import shutil
import subprocess

from servers import DATABASE, USER, Failure, free_port

# Clients that every pooler lets in.
MOST_CLIENTS = 25_000


class Setting:
    """What a pooler is started with, and what it needs to know."""

    def __init__(self, workshop, server, setup, clients):
        self.workshop, self.setup, self.clients = workshop, setup, clients
        self.host = workshop.home if setup.server == "unix" else "127.0.0.1"
        self.server_port = server.port
        self.certificate, self.key = workshop.certificate() if setup.tls else ("", "")
        self.port = free_port()

    def fields(self):
        setup = self.setup
        return {
            "port": self.port, "server_host": self.host, "server_port": self.server_port, "database": DATABASE,
            "user": USER, "password": self.workshop.password, "pool": setup.pool, "mode": setup.mode,
            "dir": self.workshop.home, "certificate": self.certificate, "key": self.key, "clients": MOST_CLIENTS,
            "most": self.clients,
        }

    def fill(self, text, **more):
        # Not str.format: configuration files have braces of their own.
        for key, value in {**self.fields(), **more}.items():
            text = text.replace("{" + key + "}", str(value))
        return text

    def write(self, name, text, **more):
        return self.workshop.write(name, self.fill(text, **more))


FIREPOOL = """
[proxy]
listen = ["127.0.0.1:{port}"]
workers = {workers}
max_clients = {clients}
[admin]
listen = ""
[log]
filter = "warn"
[timeouts]
query_wait = "60s"
[targets.main]
host = "{server_host}"
port = {server_port}
[users.{user}]
password = "{password}"
[[routes]]
database = "{database}"
mode = "{mode}"
pool_size = {pool}
"""

PGBOUNCER = """
[databases]
{database} = host={server_host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = {mode}
default_pool_size = {share}
max_client_conn = {clients}
log_connections = 0
log_disconnections = 0
"""

# One process for each client, as it has no pool of transactions.
PGPOOL = """
backend_clustering_mode = 'raw'
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{dir}'
pcp_port = {other}
pcp_socket_dir = '{dir}'
pid_file_name = '{dir}/pgpool.pid'
logdir = '{dir}'
backend_hostname0 = '{server_host}'
backend_port0 = {server_port}
enable_pool_hba = on
pool_passwd = '{passwords}'
num_init_children = {most}
max_pool = 1
connection_cache = on
load_balance_mode = off
memory_cache_enabled = off
ssl = {ssl}
ssl_cert = '{certificate}'
ssl_key = '{key}'
"""

HAPROXY = """
global
    maxconn {most}
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    maxconn {most}
listen postgresql
    bind 127.0.0.1:{port}
    server main {address}
"""

PGCAT = """
[general]
host = "127.0.0.1"
port = {port}
worker_threads = 1
admin_username = "admin"
admin_password = "{password}"
{tls}
[pools.{database}]
pool_mode = "{mode}"
query_parser_enabled = false
prepared_statements_cache_size = 500
[pools.{database}.users.0]
username = "{user}"
password = "{password}"
pool_size = {pool}
[pools.{database}.shards.0]
servers = [["127.0.0.1", {server_port}, "primary"]]
database = "{database}"
"""

ODYSSEY = """
daemonize no
log_to_stdout yes
log_config no
log_session no
log_query no
log_stats no
log_format "%p %t %l %m\\n"
unix_socket_dir "{dir}"
unix_socket_mode "0644"
locks_dir "{dir}"
workers 1
client_max {clients}
listen {
    host "127.0.0.1"
    port {port}
{tls}
}
storage "main" {
    type "remote"
    host "127.0.0.1"
    port {server_port}
}
database "{database}" {
    user "{user}" {
        authentication "scram-sha-256"
        password "{password}"
        storage "main"
        pool "{mode}"
        pool_size {pool}
        pool_discard no
        pool_reserve_prepared_statement {reserve}
    }
}
"""

PGDOG = """
[general]
host = "127.0.0.1"
port = {port}
workers = 1
pooler_mode = "{mode}"
default_pool_size = {pool}
auth_type = "scram"
{tls}
[[databases]]
name = "{database}"
host = "127.0.0.1"
port = {server_port}
"""

PGDOG_USERS = """
[[users]]
name = "{user}"
database = "{database}"
password = "{password}"
"""

PG_DOORMAN = """
[general]
host = "127.0.0.1"
port = {port}
worker_threads = 1
max_connections = {clients}
admin_username = "admin"
admin_password = "{password}"
{tls}
[pools.{database}]
server_host = "{server_host}"
server_port = {server_port}
pool_mode = "{mode}"
[[pools.{database}.users]]
username = "{user}"
password = "md5{md5}"
server_username = "{user}"
server_password = "{password}"
pool_size = {pool}
"""


# Nothing is classified but for what a session needs, and nothing is counted but by pool.
BARE = """
[metrics]
by_schema = false
top_statements = 0
"""


def firepool(setting, name, binary, workers, bare=False):
    """firepool with so many workers, guarded as `--route` says, or as bare as it can be."""
    text = FIREPOOL + (BARE if bare else setting.setup.route + "\n")
    if setting.setup.tls:
        text += '[tls]\nmode = "require"\ncertificate = "{certificate}"\nkey = "{key}"\n'
    config = setting.write(f"{name}.toml", text, workers=workers)
    return [[binary, "serve", "--config", config]]


def pgbouncer(setting, name, binary, count=1):
    """PgBouncer as it comes, in as many processes as `count` says, which share the port and the pool."""
    users = setting.write(f"{name}.users", '"{user}" "{password}"\n')
    text = PGBOUNCER + ("so_reuseport = 1\n" if count > 1 else "")
    if setting.setup.tls:
        text += "client_tls_sslmode = require\nclient_tls_cert_file = {certificate}\nclient_tls_key_file = {key}\n"
    if supports_prepared(setting.workshop, binary):
        text += "max_prepared_statements = 200\n"
    share = max(1, setting.setup.pool // count)
    config = setting.write(f"{name}.ini", text, users=users, share=share)
    return [[binary, "-q", config]] * count


def supports_prepared(workshop, binary):
    """Since 1.21, which has it switched off."""
    words = workshop.call(binary, "--version").split()
    version = words[1].split(".") if len(words) > 1 else ["0", "0"]
    return (int(version[0]), int(version[1])) >= (1, 21)


def pgpool(setting, name, binary):
    """pgpool, which joins each client to a server connection of its own."""
    passwords = setting.write(f"{name}.passwords", "{user}:TEXT{password}\n")
    kind = "hostssl" if setting.setup.tls else "host"
    hba = setting.write(f"{name}.hba", kind + " all all 127.0.0.1/32 scram-sha-256\n")
    ssl = "on" if setting.setup.tls else "off"
    config = setting.write(f"{name}.conf", PGPOOL, passwords=passwords, ssl=ssl, other=free_port())
    return [[binary, "-n", "-f", config, "-a", hba]]


def haproxy(setting, name, binary):
    """haproxy in TCP mode, which only carries bytes: each client has a server connection of its own, and TLS is the
    server's."""
    local = f"unix@{setting.host}/.s.PGSQL.{setting.server_port}"
    address = f"127.0.0.1:{setting.server_port}" if setting.setup.tls or setting.setup.server == "tcp" else local
    return [[binary, "-db", "-f", setting.write(f"{name}.cfg", HAPROXY, address=address)]]


def pgcat(setting, name, binary):
    tls = 'tls_certificate = "{certificate}"\ntls_private_key = "{key}"' if setting.setup.tls else ""
    return [[binary, setting.write(f"{name}.toml", PGCAT.replace("{tls}", tls))]]


def odyssey(setting, name, binary):
    tls = '    tls "require"\n    tls_cert_file "{certificate}"\n    tls_key_file "{key}"' if setting.setup.tls else ""
    reserve = "yes" if setting.setup.mode == "transaction" else "no"
    return [[binary, setting.write(f"{name}.conf", ODYSSEY.replace("{tls}", tls), reserve=reserve)]]


def pgdog(setting, name, binary):
    tls = 'tls_certificate = "{certificate}"\ntls_private_key = "{key}"' if setting.setup.tls else ""
    config = setting.write(f"{name}.toml", PGDOG.replace("{tls}", tls))
    users = setting.write(f"{name}.users.toml", PGDOG_USERS)
    return [[binary, "--config", config, "--users", users]]


def pg_doorman(setting, name, binary):
    tls = 'tls_certificate = "{certificate}"\ntls_private_key = "{key}"' if setting.setup.tls else ""
    md5 = hashlib.md5((setting.workshop.password + USER).encode()).hexdigest()
    return [[binary, setting.write(f"{name}.toml", PG_DOORMAN.replace("{tls}", tls), md5=md5)]]


# Kinds that `--pooler NAME=KIND:BINARY` knows.
KINDS = {
    "firepool": lambda setting, name, binary: firepool(setting, name, binary, 1),
    "bare": lambda setting, name, binary: firepool(setting, name, binary, 1, bare=True),
    "pgbouncer": pgbouncer, "pgpool": pgpool, "haproxy": haproxy, "pgcat": pgcat, "odyssey": odyssey, "pgdog": pgdog,
    "pg_doorman": pg_doorman,
}

# These have a server connection for each client.
UNPOOLED = {"pgpool", "haproxy"}


def peer(setting, name, command, template):
    """Any other pooler: `command` and its configuration `template` with their {fields} filled in."""
    more = {}
    if template:
        with open(template, encoding="utf-8") as file:
            more["config"] = setting.write(f"{name}{os.path.splitext(template)[1]}", file.read())
    return [[setting.fill(word, **more) for word in shlex.split(command)]]


def find(name, install=False):
    """Debian's package of that name, installed if it is missing, wanted, and this may install it; `None` without."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    package = {"pgpool": "pgpool2"}.get(name, name)
    if install and not shutil.which(name, path=path) and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing the package {package}", flush=True)
        # The package would start a server of its own; policy-rc.d is how Debian is told not to.
        policy = "/usr/sbin/policy-rc.d"
        mine = not os.path.exists(policy)
        if mine:
            with open(policy, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o755)) as file:
                file.write("#!/bin/sh\nexit 101\n")
        try:
            subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", package], check=False,
                           stdout=subprocess.DEVNULL, timeout=300,
                           env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        finally:
            if mine:
                os.unlink(policy)
    found = shutil.which(name, path=path)
    if install and not found:
        raise Failure(f"{name} is missing: apt-get install {package}, or leave it out with --without {name}")
    return found


def version(workshop, kind, binary):
    """What a binary says it is."""
    flag = {"haproxy": "-v"}.get(kind, "--version")
    done = subprocess.run([binary, flag], capture_output=True, text=True, check=False, timeout=20,
                          env=workshop.environment())
    words = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return words[0] if words else "says nothing"
