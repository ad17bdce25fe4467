"""Which programs there are, and how each language's drivers are installed: into the cache folder, nowhere else."""

import glob
import os
import shutil
import subprocess
import sys

from servers import Failure

HERE = os.path.dirname(os.path.abspath(__file__))
# For one command of an installation: the first time, everything comes over the network.
LIMIT = 400


class Program:
    """A program of one driver's."""

    def __init__(self, name, *words):
        self.name, self.words = name, words

    def command(self, cache):
        values = {"{cache}": cache, "{here}": HERE}
        if any("{classpath}" in word for word in self.words):
            with open(os.path.join(cache, "java", "classpath"), encoding="utf-8") as file:
                values["{classpath}"] = file.read().strip()
        words = self.words
        for name, value in values.items():
            words = [word.replace(name, value) for word in words]
        return words


class Language:
    """Programs that are installed together."""

    def __init__(self, install, programs):
        self.install, self.programs = install, programs


def call(log, *command, cwd=None, environment=None):
    """Runs a command of an installation; its words are in `log`, and in the failure."""
    with open(log, "a", encoding="utf-8") as output:
        done = subprocess.run(command, cwd=cwd, env={**os.environ, **(environment or {})}, stdout=output,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=LIMIT, check=False)
    if done.returncode != 0:
        with open(log, encoding="utf-8", errors="replace") as output:
            raise Failure(f"{' '.join(command)}:\n{output.read()[-2000:]}")


def needs(program, where):
    if not shutil.which(program):
        raise Failure(f"{program} is missing: {where}")


def fresh(folder, *manifests):
    """Whether what was installed in `folder` is what the manifests ask for; `done` writes that down."""
    wanted = "".join(open(path, encoding="utf-8").read() for path in manifests)
    stamp = os.path.join(folder, ".installed")

    def done():
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(wanted)

    try:
        with open(stamp, encoding="utf-8") as file:
            return file.read() == wanted, done
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        return False, done


def python(cache):
    """A virtual environment."""
    folder, log = os.path.join(cache, "python"), os.path.join(cache, "logs", "install-python.log")
    requirements = os.path.join(HERE, "python", "requirements.txt")
    ready, done = fresh(folder, requirements)
    if not ready:
        call(log, sys.executable, "-m", "venv", "--clear", folder)
        call(log, os.path.join(folder, "bin", "pip"), "install", "--quiet", "--only-binary=:all:",
             "-r", requirements)
        done()


def odbc(cache):
    """PostgreSQL's ODBC driver, which only comes as a package of the system's; the rest is Python's."""
    if not glob.glob("/usr/lib/*/odbc/psqlodbcw.so"):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise Failure("psqlodbc is missing: apt-get install odbc-postgresql")
        log = os.path.join(cache, "logs", "install-odbc.log")
        call(log, "apt-get", "update")
        call(log, "apt-get", "install", "-y", "--no-install-recommends", "odbc-postgresql",
             environment={"DEBIAN_FRONTEND": "noninteractive"})
    python(cache)


def node(cache):
    """Programs look for packages beside themselves: they are copied to where the packages are."""
    needs("npm", "Node.js 20 or newer")
    folder, log = os.path.join(cache, "node"), os.path.join(cache, "logs", "install-node.log")
    manifest = os.path.join(HERE, "node", "package.json")
    ready, done = fresh(folder, manifest)
    for path in [manifest, *glob.glob(os.path.join(HERE, "node", "*.js"))]:
        shutil.copy(path, folder)
    if not ready:
        call(log, "npm", "install", "--no-package-lock", "--ignore-scripts", "--omit=optional", "--no-audit",
             "--no-fund", cwd=folder)
        done()


def go(cache):
    """Modules and what is compiled, in the cache; the compiler itself keeps track of what is fresh."""
    needs("go", "Go 1.25 or newer")
    folder, log = os.path.join(cache, "go"), os.path.join(cache, "logs", "install-go.log")
    os.makedirs(os.path.join(folder, "bin"), exist_ok=True)
    call(log, "go", "build", "-o", os.path.join(folder, "bin") + "/", "./encrypted", "./pgx", "./pq", "./stdlib",
         cwd=os.path.join(HERE, "go"), environment=go_environment(folder))


def go_environment(folder):
    """Nothing of this is the person's own; -modcacherw, so that it may be deleted."""
    return {"GOMODCACHE": os.path.join(folder, "mod"), "GOCACHE": os.path.join(folder, "cache"),
            "GOFLAGS": "-modcacherw -buildvcs=false -mod=readonly", "GOTOOLCHAIN": "local"}


def rust(cache):
    """What is compiled is in the cache; what comes over the network is cargo's business."""
    needs("cargo", "Rust 1.85 or newer, and libssl-dev")
    folder, log = os.path.join(cache, "rust"), os.path.join(cache, "logs", "install-rust.log")
    call(log, "cargo", "build", "--quiet", "--locked", "--target-dir", folder, cwd=os.path.join(HERE, "rust"))


def java(cache):
    """Maven's repository is in the cache as well; without the network once everything is there."""
    needs("mvn", "Maven and a JDK of 17 or newer")
    folder, log = os.path.join(cache, "java"), os.path.join(cache, "logs", "install-java.log")
    ready, done = fresh(folder, os.path.join(HERE, "java", "pom.xml"))
    call(log, "mvn", "-q", "-B", f"-Dmaven.repo.local={folder}/repository", f"-Dcache={folder}",
         f"-Dmdep.outputFile={folder}/classpath", *(["-o"] if ready else []), "compile",
         "dependency:build-classpath", cwd=os.path.join(HERE, "java"))
    done()


def several(names, *words):
    """A program for each of the names."""
    return [Program(name, *[word.replace("{name}", name) for word in words]) for name in names]


PYTHON = ["{cache}/python/bin/python", "-B"]
LANGUAGES = {
    "python": Language(python, [
        *several(["psycopg", "asyncpg", "psycopg2"], *PYTHON, "{here}/python/with_{name}.py"),
        Program("sqlalchemy-psycopg", *PYTHON, "{here}/python/with_sqlalchemy.py", "psycopg"),
        Program("sqlalchemy-asyncpg", *PYTHON, "{here}/python/with_sqlalchemy.py", "asyncpg"),
        Program("encrypted-python", *PYTHON, "{here}/python/encrypted.py")]),
    "node": Language(node, [
        *several(["pg", "postgres", "kysely"], "node", "{cache}/node/with_{name}.js"),
        Program("drizzle-pg", "node", "{cache}/node/with_drizzle.js", "pg"),
        Program("drizzle-postgres", "node", "{cache}/node/with_drizzle.js", "postgres"),
        Program("encrypted-node", "node", "{cache}/node/encrypted.js")]),
    "go": Language(go, [
        *several(["pgx", "pq", "stdlib"], "{cache}/go/bin/{name}"),
        Program("encrypted-go", "{cache}/go/bin/encrypted")]),
    "rust": Language(rust, [Program("encrypted-rust", "{cache}/rust/debug/encrypted-rust")]),
    "java": Language(java, [
        Program(name, "java", "-XX:TieredStopAtLevel=1", "-cp", "{cache}/java/build/classes:{classpath}",
                f"clients.{main}")
        for name, main in [("pgjdbc", "Jdbc"), ("hikaricp", "Hikari"), ("flyway", "Migrations"),
                           ("encrypted-java", "Encrypted")]]),
    "odbc": Language(odbc, several(["pyodbc"], *PYTHON, "{here}/python/with_{name}.py")),
}
