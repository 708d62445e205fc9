"""The systems under comparison: each comes up on this machine with its data in memory, and goes away without a trace.

A system is a context manager with a `directory` to measure, and the processes whose memory is of interest.
Every listening socket is on the loopback device. Nothing outside the given scratch directories is written.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


class BringUpError(RuntimeError):
    """A system did not come up; the message holds what its processes last said."""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of this host's address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def is_mountpoint(directory: Path) -> bool:
    """What `mountpoint -q` answers; a mount whose daemon died is none for us."""
    return subprocess.run(["mountpoint", "-q", directory], stderr=subprocess.DEVNULL).returncode == 0


def wait_until(what: str, condition, timeout_s: float, processes=()):
    """Polls `condition`; fails with the name of what never came, or at once when a process has died."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        for process in processes:
            if process.poll() is not None:
                raise BringUpError(f"{process.args[0]} ended with {process.returncode} while waiting for {what}")
        if time.monotonic() > deadline:
            raise BringUpError(f"{what} did not come within {timeout_s} s")
        time.sleep(0.05)


def can_connect(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def unmount(directory: Path):
    """Unmounts `directory`, lazily when it is busy or its daemon is gone."""
    if os.path.ismount(directory) or not directory.exists():
        if subprocess.run(["umount", directory], stderr=subprocess.DEVNULL).returncode == 0:
            return
    subprocess.run(["umount", "-l", directory], stderr=subprocess.DEVNULL)


class System:
    """What the harness knows of any system: `name`, `directory`, and processes by role."""

    name = ""
    is_mount = True

    def __init__(self, scratch: Path, memory: Path):
        """`scratch`: settings, logs and mount points. `memory`: a directory on a memory file system for data."""
        self.scratch = scratch / self.name
        self.memory = memory / self.name
        self.directory = self.scratch / "mount"
        self.processes: dict[str, subprocess.Popen] = {}
        self.mount_command: list[str] = []

    def __enter__(self):
        self.scratch.mkdir(parents=True)
        self.memory.mkdir(parents=True)
        self.directory.mkdir(exist_ok=True)
        try:
            self.bring_up()
        except BaseException:
            self.show_logs()
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *_):
        if self.is_mount:
            unmount(self.directory)
            self.end_remounted()
        for process in reversed(list(self.processes.values())):
            self.end(process)
        shutil.rmtree(self.memory, ignore_errors=True)
        if not os.path.ismount(self.directory):
            shutil.rmtree(self.scratch, ignore_errors=True)

    def bring_up(self):
        """Starts the processes and mounts; overridden by each system."""

    def spawn(self, role: str, command: list, **environment) -> subprocess.Popen:
        """Starts a process of this system; its output goes to a log in the scratch directory."""
        with open(self.scratch / f"{role}.log", "ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.scratch,
                env={**os.environ, **environment},
            )
        self.processes[role] = process
        return process

    def pids(self) -> dict[str, int]:
        """The process of every role; the one that mounts may be another after each remount."""
        pids = {role: process.pid for role, process in self.processes.items()}
        if self.pid_file.exists():
            pids["mount"] = int(self.pid_file.read_text())
        return pids

    @property
    def pid_file(self) -> Path:
        """Where `remount_script` leaves the number of the process that mounts."""
        return self.scratch / "mount.pid"

    def remount_script(self) -> str:
        """Shell commands that unmount the directory and mount it anew by a fresh process."""
        directory, log = shlex.quote(str(self.directory)), shlex.quote(str(self.scratch / "mount.log"))
        return (
            f"umount {directory}\n"
            f"setsid {shlex.join(self.mount_command)} </dev/null >>{log} 2>&1 &\n"
            f"echo $! >{shlex.quote(str(self.pid_file))}\n"
            f"until mountpoint -q {directory}; do kill -0 $! || exit 1; sleep 0.02; done"
        )

    def end_remounted(self):
        """Waits for the end of a process that the remount script started; it ends with its mount."""
        if self.pid_file.exists():
            proc = Path("/proc") / self.pid_file.read_text().strip()
            wait_until("the end of the mount process", lambda: not proc.exists(), 20)

    def show_logs(self):
        """Prints the end of every log: a system that failed to come up explains itself."""
        for log in sorted(self.scratch.glob("*.log")):
            print(f"--- {self.name}: {log.name}", file=sys.stderr)
            print("\n".join(log.read_text(errors="replace").splitlines()[-15:]), file=sys.stderr)

    @staticmethod
    def end(process: subprocess.Popen):
        """Asks a process to end, and insists after ten seconds."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Tmpfs(System):
    """The yardstick: a plain directory on the memory file system."""

    name = "tmpfs"
    is_mount = False

    def __init__(self, scratch: Path, memory: Path):
        super().__init__(scratch, memory)
        self.directory = self.memory


class MooseFs(System):
    """MooseFS 3 from Debian's packages: one master, one chunkserver with its chunks in memory, one mount, goal 1."""

    name = "moosefs"

    # A chunkserver refuses to register from 127.0.0.1. This address of the loopback device (from the range that is
    # reserved for documentation) exists while the system is up, and never leaves the machine.
    address = "198.51.100.1"

    def __exit__(self, *problem):
        super().__exit__(*problem)
        subprocess.run(["ip", "address", "del", f"{self.address}/32", "dev", "lo"], stderr=subprocess.DEVNULL)

    def bring_up(self):
        # All of it in memory: the master's change log too, so that no disk slows MooseFS down.
        data, chunks = self.memory / "master", self.memory / "chunks"
        data.mkdir()
        chunks.mkdir()
        subprocess.run(["ip", "address", "replace", f"{self.address}/32", "dev", "lo"], check=True)
        shutil.copy("/var/lib/mfs/metadata.mfs.empty", data / "metadata.mfs")
        to_metalogger, to_chunkserver, to_client, chunkserver = (free_port(self.address) for _ in range(4))
        self.to_client = to_client
        exports = self.write("mfsexports.cfg", f"{self.address} / rw,alldirs,admin,maproot=0:0\n")
        master = self.write(
            "mfsmaster.cfg",
            "WORKING_USER = root\nWORKING_GROUP = root\nNICE_LEVEL = 0\nREPLICATIONS_DELAY_INIT = 0\n"
            f"DATA_PATH = {data}\nEXPORTS_FILENAME = {exports}\nTOPOLOGY_FILENAME = /dev/null\n"
            f"MATOML_LISTEN_HOST = {self.address}\nMATOML_LISTEN_PORT = {to_metalogger}\n"
            f"MATOCS_LISTEN_HOST = {self.address}\nMATOCS_LISTEN_PORT = {to_chunkserver}\n"
            f"MATOCL_LISTEN_HOST = {self.address}\nMATOCL_LISTEN_PORT = {to_client}\n",
        )
        disks = self.write("mfshdd.cfg", f"{chunks}\n")
        (self.memory / "chunkserver").mkdir()
        server = self.write(
            "mfschunkserver.cfg",
            "WORKING_USER = root\nWORKING_GROUP = root\nNICE_LEVEL = 0\n"
            f"DATA_PATH = {self.memory / 'chunkserver'}\nHDD_CONF_FILENAME = {disks}\nHDD_LEAVE_SPACE_DEFAULT = 64MiB\n"
            f"MASTER_HOST = {self.address}\nMASTER_PORT = {to_chunkserver}\n"
            f"CSSERV_LISTEN_HOST = {self.address}\nCSSERV_LISTEN_PORT = {chunkserver}\n",
        )
        process = self.spawn("master", ["mfsmaster", "-f", "-c", master, "start"])
        wait_until("the MooseFS master", lambda: can_connect(to_client, self.address), 20, [process])
        process = self.spawn("storage", ["mfschunkserver", "-f", "-c", server, "start"])
        wait_until("the MooseFS chunkserver", lambda: can_connect(chunkserver, self.address), 20, [process])
        self.mount(self.directory)

    def mount(self, directory: Path):
        """Mounts the root and sets goal 1, then waits until a file can be written."""
        self.mount_command = ["mfsmount", "-f", str(directory), "-H", self.address, "-P", str(self.to_client)]
        process = self.spawn("mount", self.mount_command)
        wait_until("the MooseFS mount", lambda: is_mountpoint(directory), 20, [process])
        # The trash would keep deleted chunks in memory for a day.
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run(["mfssettrashtime", "-r", "0", directory], **quiet)
        subprocess.run(["mfssetgoal", "-r", "1", directory], **quiet)
        wait_until("a writable MooseFS", lambda: self.accepts_data(directory), 60)

    @staticmethod
    def accepts_data(directory: Path) -> bool:
        """Whether a chunkserver has registered: until then writes fail."""
        probe = directory / ".probe"
        try:
            probe.write_bytes(b"x")
            probe.unlink()
            return True
        except OSError:
            return False

    def write(self, name: str, text: str) -> Path:
        """Writes a settings file."""
        path = self.scratch / name
        path.write_text(text)
        return path


class Pocket(System):
    """A Pocket cluster of separate processes over TCP loopback, DRAM tier, and two mounts of one job."""

    name = "pocket"
    job = "bench"

    def __init__(self, scratch: Path, memory: Path, programs: Path, sizes: "PocketSizes"):
        super().__init__(scratch, memory)
        self.programs = programs
        self.sizes = sizes
        self.second_mount = self.scratch / "second-mount"

    def __exit__(self, *problem):
        unmount(self.second_mount)
        super().__exit__(*problem)

    def bring_up(self):
        self.second_mount.mkdir()
        # Every server listens on ports of its own choice where it can; the controller's address must be known.
        controller = f"127.0.0.1:{free_port()}"
        pocket = self.programs / "pocket"
        self.spawn("controller", [pocket, "controller", "--listen", controller])
        wait_until("the controller", lambda: self.answers(controller), 20, self.processes.values())
        local = ["--listen", "127.0.0.1:0", "--controller", controller]
        self.spawn("meta", [pocket, "meta", "--control-listen", "127.0.0.1:0", *local])
        for number in range(self.sizes.storage_servers):
            capacity = ["--capacity", str(self.sizes.server_bytes)]
            self.spawn(f"storage{number}", [pocket, "storage", *local, *capacity])
        wait_until("the servers", lambda: self.has_registered(controller), 20, self.processes.values())
        self.mount("mount", self.directory, controller)
        self.mount("second mount", self.second_mount, controller)

    def mount(self, role: str, directory: Path, controller: str):
        """Mounts the job; the process stays in the foreground so that its memory is ours to watch."""
        budget = ["--memory-budget", str(self.sizes.budget_bytes), "--capacity", str(self.sizes.job_bytes)]
        command = [self.programs / "pocket-mount", self.job, directory, "-f", "--controller", controller, *budget]
        if role == "mount":
            self.mount_command = [str(word) for word in command]
        process = self.spawn(role, command)
        wait_until(f"the Pocket {role}", lambda: is_mountpoint(directory), 20, [process])

    def answers(self, controller: str) -> bool:
        """Whether the controller answers requests."""
        command = [self.programs / "pocket", "nodes", "--json", "--controller", controller]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def has_registered(self, controller: str) -> bool:
        """Whether the metadata server and all storage servers are known to the controller."""
        command = [self.programs / "pocket", "nodes", "--json", "--controller", controller]
        listing = subprocess.run(command, capture_output=True, text=True)
        return listing.returncode == 0 and len(json.loads(listing.stdout)) == 1 + self.sizes.storage_servers


@dataclass(frozen=True)
class PocketSizes:
    """How large a Pocket cluster is."""

    storage_servers: int
    server_bytes: int
    job_bytes: int
    budget_bytes: int
