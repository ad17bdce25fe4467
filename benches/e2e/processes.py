"""What the kernel says of processes and of the machine."""

import os
import re
import resource

TICKS = os.sysconf("SC_CLK_TCK")


def stat(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        # The name, in parentheses, may hold spaces.
        return file.read().rpartition(")")[2].split()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return [int(child) for child in file.read().split()]


def family(pids):
    """These and all that they have started, as far as it still runs."""
    found = list(pids)
    for pid in found:
        try:
            found += children(pid)
        except OSError:
            pass
    return found


def cpu_seconds(pids):
    """User and system time of all threads of these, of what they have started, and of what that was before it ended."""
    user = system = 0
    for pid in family(pids):
        try:
            fields = stat(pid)
        except OSError:
            continue
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return user / TICKS, system / TICKS


def server_cpu_seconds(postmaster):
    """CPU time of PostgreSQL's processes, by process: those that end in between are left out."""
    times = {}
    for pid in children(postmaster):
        try:
            fields = stat(pid)
            times[pid] = (int(fields[11]) + int(fields[12])) / TICKS
        except OSError:
            pass
    return times


def clients_cpu_seconds():
    """CPU time of the clients that have ended; what else was started still runs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident_kb(pids):
    """Resident memory, of which several processes count what they share once."""
    members = family(pids)
    total = 0
    for pid in members:
        name, key = ("smaps_rollup", "Pss") if len(members) > 1 else ("status", "VmRSS")
        try:
            with open(f"/proc/{pid}/{name}", encoding="utf-8") as file:
                total += int(re.search(rf"^{key}:\s+(\d+)", file.read(), re.MULTILINE)[1])
        except OSError:
            pass
    return total


def machine():
    """Busy and stolen time of all cores, in seconds."""
    with open("/proc/stat", encoding="utf-8") as file:
        fields = [int(field) / TICKS for field in file.readline().split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, steal = fields
    return user + nice + system + irq + softirq, steal


def files(count):
    """Has this process, and what it starts, open so many files; how many it may at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, min(count, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
