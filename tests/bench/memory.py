"""Memory and CPU time of processes over a run, read from /proc. Linux only; no process is disturbed."""

import os
import subprocess
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
    """Watches processes from a thread until `stop`; a process that ends keeps its last figures."""

    def __init__(self, processes: dict[str, subprocess.Popen]):
        self.pids = {role: process.pid for role, process in processes.items()}
        self.usages = {role: Usage(status_bytes(pid, "VmRSS")) for role, pid in self.pids.items()}
        self.cpu_at_start = {role: cpu_seconds(pid) for role, pid in self.pids.items()}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, name="watch", daemon=True)
        self.thread.start()

    def run(self):
        """The thread's loop."""
        while not self.stopped.wait(SAMPLE_EVERY_S):
            self.sample()

    def sample(self):
        """Takes one sample of every process. The kernel keeps the peak, so that none is missed in between."""
        for role, pid in self.pids.items():
            usage = self.usages[role]
            try:
                usage.peak_bytes = status_bytes(pid, "VmHWM")
                usage.end_bytes = status_bytes(pid, "VmRSS")
                usage.cpu_seconds = cpu_seconds(pid) - self.cpu_at_start[role]
            except (FileNotFoundError, ProcessLookupError):
                pass

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each process since the watch began."""
        self.sample()
        return {role: usage.cpu_seconds for role, usage in self.usages.items()}

    def stop(self) -> dict[str, Usage]:
        """Ends the watch and returns what it saw."""
        self.stopped.set()
        self.thread.join()
        self.sample()
        return self.usages
