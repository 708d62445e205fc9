#!/usr/bin/env python3
"""Compares Pocket with MooseFS and tmpfs on this machine, everything in memory, servers as processes over loopback.

    cargo build --release -p pocket-mounts
    sudo tests/bench/compare.py --output docs/benchmarks

Brings up all three, runs `pocket bench` on them interleaved, watches the memory and the CPU time of every process
meanwhile, fills a small storage server to the brim, and writes OUTPUT.json (every sample) and OUTPUT.md (medians and
ratios). Takes about two minutes per repetition. Needs root, /dev/fuse, about 8 GiB of free memory, and Debian's
moosefs-master, moosefs-chunkserver and moosefs-client. Everything is torn down at the end, also after Ctrl-C.
"""

import argparse
import dataclasses
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.dont_write_bytecode = True

import fill
import markdown
from memory import Watch
from systems import BringUpError, MooseFs, Pocket, PocketSizes, Tmpfs, is_mountpoint

REPOSITORY = Path(__file__).resolve().parents[2]
GIB = 1 << 30
MIB = 1 << 20

SIZES = PocketSizes(storage_servers=2, server_bytes=3 * GIB, job_bytes=5 * GIB, budget_bytes=256 * MIB)

# Memory that the first touch of which is paid before anything is measured (a virtual machine gets it from its host).
TOUCH_BYTES = 6 * GIB

# A line of `pocket bench`'s progress: "2/5 b files of 4 KiB: /some/directory".
PROGRESS = re.compile(r"^\d+/\d+ (?P<section>[a-h]) .*: (?P<directory>/.*)$")


def main():
    arguments = parse_arguments()
    check_prerequisites(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(temporary_directory("pocket-compare.", None)))
        memory = Path(stack.enter_context(temporary_directory("pocket-compare.", "/dev/shm")))
        touch_memory(memory)
        report = {"machine": describe_machine(), "command": " ".join(["tests/bench/compare.py", *sys.argv[1:]])}
        report["pocket"] = dataclasses.asdict(SIZES)
        report.update(compare(arguments, scratch, memory))
        if not arguments.no_fill:
            report["fill"] = fill.measure(lambda name: small_pocket(name, scratch, memory, arguments.programs))
    write(arguments.output, report)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="repetitions of every section (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="amount of work, see pocket bench --help")
    parser.add_argument("--sections", default="a,b,c,d,e,f,g", help="see pocket bench --help")
    parser.add_argument("--without", action="append", default=[], choices=["moosefs", "tmpfs"], help="leave one out")
    parser.add_argument("--remount", action="store_true", help="mount anew where a cold read is wanted")
    parser.add_argument("--no-fill", action="store_true", help="do not fill a storage server to the brim")
    parser.add_argument("--programs", type=Path, default=REPOSITORY / "target/release", help="where Pocket's programs are")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "target/compare", help="path without extension")
    return parser.parse_args()


def check_prerequisites(arguments: argparse.Namespace):
    """Says everything that is missing at once."""
    wanted = [arguments.programs / "pocket", arguments.programs / "pocket-mount", "mountpoint", "umount"]
    if "moosefs" not in arguments.without:
        wanted += ["mfsmaster", "mfschunkserver", "mfsmount", "ip"]
    missing = [str(program) for program in wanted if shutil.which(program) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if missing:
        sys.exit(f"compare.py needs {', '.join(missing)} (see the head of this file)")


class temporary_directory(tempfile.TemporaryDirectory):
    """A temporary directory that is never emptied through a mount that could not be unmounted."""

    def __init__(self, prefix, parent):
        super().__init__(prefix=prefix, dir=parent, ignore_cleanup_errors=True)

    def cleanup(self):
        mounts = Path("/proc/self/mounts").read_text()
        if f" {self.name}/" in mounts:
            print(f"left behind, something is still mounted there: {self.name}", file=sys.stderr)
        else:
            super().cleanup()


def touch_memory(memory: Path):
    """Fills and frees memory, so that nobody pays for its first touch while the clock runs."""
    block = os.urandom(MIB)
    path = memory / "touched"
    with open(path, "wb") as file:
        for _ in range(TOUCH_BYTES // MIB):
            file.write(block)
    path.unlink()


def compare(arguments: argparse.Namespace, scratch: Path, memory: Path) -> dict:
    """Brings the systems up, runs the benchmark on all of them, and takes them down."""
    with ExitStack() as stack:
        pocket = stack.enter_context(Pocket(scratch, memory, arguments.programs, SIZES))
        systems = [pocket]
        for kind in (MooseFs, Tmpfs):
            if kind.name not in arguments.without:
                systems.append(stack.enter_context(kind(scratch, memory)))
        watch = Watch(systems)
        command = [arguments.programs / "pocket", "bench", pocket.directory, "--json", "--second-mount", pocket.second_mount]
        command += ["--repeat", arguments.repeat, "--scale", arguments.scale, "--sections", arguments.sections]
        for system in systems[1:]:
            command += ["--against", system.directory]
        if arguments.remount:
            command += ["--remount", f"sh {write_remount_script(scratch, systems)}"]
        bench, cpu = run_bench([str(word) for word in command], systems, watch)
        usages = {role: dataclasses.asdict(usage) for role, usage in watch.stop().items()}
        for system in systems:
            if system.is_mount and not is_mountpoint(system.directory):
                raise BringUpError(f"the mount of {system.name} did not survive the run")
        return {"systems": [system.name for system in systems], "bench": bench, "cpu_seconds": cpu, "processes": usages}


def write_remount_script(scratch: Path, systems: list) -> Path:
    """A shell script that mounts the directory $DIR anew, whichever system it belongs to."""
    cases = [f"{system.directory})\n{system.remount_script()};;" for system in systems if system.is_mount]
    script = scratch / "remount.sh"
    script.write_text('case "$DIR" in\n' + "\n".join(cases) + "\nesac\n")
    return script


def run_bench(command: list[str], systems: list, watch: Watch) -> tuple[dict, dict]:
    """Runs the benchmark; returns its report, and the CPU seconds of each process by section of its own system."""
    by_directory = {str(system.directory): system.name for system in systems}
    spent: dict[str, dict[str, float]] = {}
    current, before = None, watch.cpu_now()
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True) as bench,
    ):
        for line in bench.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            match = PROGRESS.match(line.strip())
            if match:
                after = watch.cpu_now()
                account(spent, current, before, after)
                current, before = (match["section"], by_directory[match["directory"]]), after
        bench.wait()
        output.seek(0)
        text = output.read()
    account(spent, current, before, watch.cpu_now())
    if not text:
        raise BringUpError(f"pocket bench ended with {bench.returncode} and without a report")
    return json.loads(text), spent


def account(spent: dict, current: tuple[str, str] | None, before: dict, after: dict):
    """Adds what the processes of one system spent during one section."""
    if current:
        section, system = current
        for role in after:
            if role.startswith(system + " "):
                by_section = spent.setdefault(role, {})
                now = after[role] - before.get(role, 0.0)
                by_section[section] = round(by_section.get(section, 0.0) + now, 2)


def small_pocket(name: str, scratch: Path, memory: Path, programs: Path) -> Pocket:
    """A cluster of one storage server that is easily filled."""
    sizes = PocketSizes(1, fill.SERVER_BYTES, fill.SERVER_BYTES, SIZES.budget_bytes)
    return Pocket(scratch / name, memory / name, programs, sizes)


def describe_machine() -> dict:
    """What a reader must know of the machine; nothing that names it."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    memory_kib = int(re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text()).group(1))
    version = subprocess.run(["mfsmaster", "-v"], capture_output=True, text=True).stdout if shutil.which("mfsmaster") else ""
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout
    return {
        "processor": model.group(1) if model else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gib": round(memory_kib / MIB, 1),
        "kernel": platform.release().split("-")[0],
        "moosefs": version.strip(),
        "commit": commit.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "load_before": os.getloadavg()[0],
    }


def write(output: Path, report: dict):
    """Writes the report for machines and for people."""
    output.parent.mkdir(parents=True, exist_ok=True)
    text = markdown.render(report)
    output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    output.with_suffix(".md").write_text(text)
    print(text)
    print(f"written: {output.with_suffix('.json')} and {output.with_suffix('.md')}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except BringUpError as problem:
        sys.exit(f"compare.py: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)
