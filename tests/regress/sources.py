"""PostgreSQL's own tests, for exactly the server that is installed.

They are Debian's source package of that version, fetched with lists of package sources of our own: those of the machine
are read, never changed, and nothing is installed. What the tests load into the server is compiled here.
"""

import glob
import os
import re
import shutil
import subprocess

from servers import Failure

# What is taken out of the source package.
WANTED = ("src/test/regress", "src/test/isolation", "contrib/spi")
# Libraries that the tests load, as src/test/regress/GNUmakefile builds them.
LIBRARIES = {"regress": "src/test/regress/regress.c", "refint": "contrib/spi/refint.c",
             "autoinc": "contrib/spi/autoinc.c"}


def call(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


class Sources:
    """`folder` holds the source tree's tests, `lib` the compiled libraries, `regress` and `isolation` the drivers."""

    def __init__(self, cache, bindir):
        if not shutil.which("dpkg-query") or not shutil.which("apt-get"):
            raise Failure("PostgreSQL's tests come from Debian's source package: this needs Debian or Ubuntu")
        self.bindir = bindir
        owner = call("dpkg-query", "-S", os.path.join(bindir, "postgres"))
        self.package = owner.split(":")[0]
        self.version = call("dpkg-query", "-W", "-f", "${Version}", self.package)
        self.major = self.package.rpartition("-")[2]
        self.cache = os.path.join(cache, self.version.replace("/", "_"))
        self.folder, self.lib = (os.path.join(self.cache, name) for name in ("source", "lib"))
        os.makedirs(self.cache, exist_ok=True)
        if not os.path.isdir(self.folder):
            self.fetch_source()
        if not os.path.isdir(self.lib):
            self.compile()
        self.regress = self.driver("regress/pg_regress")
        self.isolation = self.driver("isolation/pg_isolation_regress")

    def apt(self, *arguments):
        """apt-get with package lists of our own."""
        own = os.path.join(self.cache, "apt")
        options = {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": os.path.join(own, "parts"),
                   "Dir::State::Lists": os.path.join(own, "lists"), "Dir::Cache": os.path.join(own, "cache"),
                   # The folder may be one that apt's own account cannot enter.
                   "APT::Sandbox::User": ""}
        if not os.path.isdir(own):
            for name in ("parts", "lists/partial", "cache/archives/partial"):
                os.makedirs(os.path.join(own, name))
            write_lists(options["Dir::Etc::SourceParts"])
            self.apt("update")
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return call("apt-get", "-q", *words, *arguments, cwd=self.cache)

    def fetch_source(self):
        print(f"fetching the source of {self.package} {self.version}", flush=True)
        self.apt("source", "--download-only", f"{self.package}={self.version}")
        archive = self.only("*.orig.tar.*")
        unpacked = os.path.join(self.cache, "unpacking")
        shutil.rmtree(unpacked, ignore_errors=True)
        os.makedirs(unpacked)
        call("tar", "-xf", archive, "-C", unpacked, "--strip-components=1", "--wildcards",
             *(f"*/{name}" for name in WANTED))
        # Only a complete tree has the name that is looked for.
        os.rename(unpacked, self.folder)

    def only(self, pattern):
        found = glob.glob(os.path.join(self.cache, pattern))
        if len(found) != 1:
            raise Failure(f"{self.cache} should hold one {pattern}, it holds {len(found)}")
        return found[0]

    def headers(self):
        """The server's headers: those installed, or those of the package that holds them, unpacked beside the source."""
        installed = call("pg_config", "--includedir-server").strip() if shutil.which("pg_config") else ""
        if os.path.exists(os.path.join(installed, "postgres.h")) and f"/{self.major}/" in installed:
            return installed
        package, unpacked = f"postgresql-server-dev-{self.major}", os.path.join(self.cache, "headers")
        print(f"fetching {package} {self.version}", flush=True)
        self.apt("download", f"{package}={self.version}")
        call("dpkg-deb", "-x", self.only(f"{package}_*.deb"), unpacked)
        return os.path.join(unpacked, f"usr/include/postgresql/{self.major}/server")

    def compile(self):
        headers, unfinished = self.headers(), os.path.join(self.cache, "compiling")
        shutil.rmtree(unfinished, ignore_errors=True)
        os.makedirs(unfinished)
        for name, source in LIBRARIES.items():
            # REFINT_VERBOSE is contrib/spi/Makefile's: the expected output has what it says.
            call("cc", "-O2", "-fPIC", "-shared", "-fwrapv", "-fno-strict-aliasing", "-w", "-DREFINT_VERBOSE",
                 "-I", headers, os.path.join(self.folder, source), "-o", os.path.join(unfinished, f"{name}.so"))
        os.rename(unfinished, self.lib)

    def driver(self, name):
        """A program that Debian ships for extensions' tests, with the client programs."""
        path = os.path.join(os.path.dirname(self.bindir), "lib/pgxs/src/test", name)
        if not os.path.exists(path):
            raise Failure(f"{path} is missing: it belongs to the package postgresql-client-{self.major}")
        return path

    def input(self, suite):
        return os.path.join(self.folder, "src/test", suite)


def schedule(source, suite):
    """The names of all tests of a suite, in the order of its schedule."""
    name = {"regress": "parallel_schedule", "isolation": "isolation_schedule"}[suite]
    with open(os.path.join(source, "src/test", suite, name), encoding="utf-8") as file:
        lines = [line.split() for line in file]
    return [test for line in lines if line and line[0] == "test:" for test in line[1:]]


def write_lists(folder):
    """Copies the machine's own list entries, with their source packages switched on.

    Only those of distributions and of PostgreSQL's own repository: others have no source packages.
    """
    ours = re.compile(r"debian|ubuntu|postgresql", re.IGNORECASE)
    for path in ["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*")]:
        if not os.path.exists(path) or not path.endswith((".list", ".sources")):
            continue
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if path.endswith(".list"):
            lines = [line for line in text.splitlines() if re.match(r"deb\s", line) and ours.search(line)]
            kept = "".join(f"{line}\ndeb-src{line[3:]}\n" for line in lines)
        else:
            stanzas = [part for part in re.split(r"\n\s*\n", text) if ours.search(part)]
            kept = "\n\n".join(re.sub(r"(?m)^Types:.*$", "Types: deb deb-src", part) for part in stanzas)
        with open(os.path.join(folder, os.path.basename(path)), "w", encoding="utf-8") as file:
            file.write(kept + "\n")
