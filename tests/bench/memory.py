"""Memory and CPU time of processes over a run, read from /proc. Linux only; no process is disturbed."""

import os
import threading
from dataclasses import dataclass

SAMPLE_EVERY_S = 0.2
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def status_bytes(pid: int, name: str) -> int:
    """A size from /proc/PID/status (proc(5)): VmRSS is what is resident now, VmHWM the most that ever was."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, in user and kernel mode."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@dataclass
class Usage:
    """What a process used: resident bytes when the watch began, at their peak and at the end."""

    start_bytes: int
    peak_bytes: int = 0
    end_bytes: int = 0
    cpu_seconds: float = 0.0


class Watch:
    """Watches the processes of some systems from a thread until `stop`.

    A process that ends keeps its last figures; where another takes over its role, peaks and CPU times of both count.
    """

    def __init__(self, systems: list):
        self.systems = systems
        self.usages: dict[str, Usage] = {}
        self.cpu: dict[tuple[str, int], float] = {}
        self.sampling = threading.Lock()
        self.sample()
        # What was spent before the watch does not count.
        self.before = self.cpu_now()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, name="watch", daemon=True)
        self.thread.start()

    def run(self):
        """The thread's loop."""
        while not self.stopped.wait(SAMPLE_EVERY_S):
            self.sample()

    def sample(self):
        """Takes one sample of every process. The kernel keeps the peak, so that none is missed in between."""
        with self.sampling:
            for system in self.systems:
                for role, pid in system.pids().items():
                    try:
                        self.sample_process(f"{system.name} {role}", pid)
                    except (FileNotFoundError, ProcessLookupError):
                        pass

    def sample_process(self, role: str, pid: int):
        """One sample of one process."""
        resident, peak = status_bytes(pid, "VmRSS"), status_bytes(pid, "VmHWM")
        usage = self.usages.setdefault(role, Usage(resident))
        usage.peak_bytes = max(usage.peak_bytes, peak)
        usage.end_bytes = resident
        self.cpu[role, pid] = cpu_seconds(pid)

    def cpu_now(self) -> dict[str, float]:
        """CPU seconds of each role since its first process started."""
        self.sample()
        totals: dict[str, float] = {}
        for (role, _), seconds in self.cpu.items():
            totals[role] = totals.get(role, 0.0) + seconds
        return totals

    def stop(self) -> dict[str, Usage]:
        """Ends the watch and returns what it saw."""
        self.stopped.set()
        self.thread.join()
        for role, seconds in self.cpu_now().items():
            self.usages[role].cpu_seconds = round(seconds - self.before.get(role, 0.0), 2)
        return self.usages
