#!/usr/bin/env python3
"""run.py [FIGURE.svg]: three jobs arrive and leave, and the cluster follows them.

The experiment behind figure 10 of the Pocket paper, on one machine: a cluster of its own (`pocket up
--autoscale`) starts with one storage server. Three jobs, each mounted and with hints of its bandwidth
and capacity, arrive one after another, write and read their data, and leave. Meanwhile bandwidth
allocated to jobs, bandwidth used and the number of storage servers are sampled; at the end they are
drawn over time, and these two times are told and checked:

  from the decision to start a server until it takes data            at most 2 s
  from the end of a job until its capacity is free again             at most 2 s

Every byte that a job reads back is compared with what it wrote. Takes two minutes once Pocket is
built; POCKET_BIN names a directory with `pocket` and `pocket-mount` to use another build. Needs
/dev/fuse, and root or fusermount3.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
MB = 1_000_000
SERVER_BYTES = 128 << 20
SERVER_RATE = 200 * MB
SERVERS_MIN, SERVERS_MAX = 1, 8
SAMPLE_SECONDS = 0.2
PROMISED_SECONDS = 2.0
# Name, arrives after, stays for (seconds), capacity (MiB), bandwidth (MB/s).
JOBS = [("sort", 5, 45, 160, 320), ("video", 15, 35, 160, 400), ("lambda", 30, 40, 96, 240)]
QUIET_AFTER = 25


def binaries():
    given = os.environ.get("POCKET_BIN")
    if given:
        return pathlib.Path(given)
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bins"], cwd=REPOSITORY, check=True)
    return REPOSITORY / "target" / "release"


class Cluster:
    """`pocket up --autoscale`, ended with the block."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        command = [self.folder / "pocket", "up", "--autoscale", "--json", "--listen", "127.0.0.1:0"]
        command += ["--min", str(SERVERS_MIN), "--max", str(SERVERS_MAX)]
        command += ["--capacity", str(SERVER_BYTES), "--bandwidth", f"{SERVER_RATE}B/s"]
        command += ["--drain-deadline", "5s"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.controller = json.loads(self.process.stdout.readline())["controller"]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def ask(self, *words):
        command = [self.folder / "pocket", *words, "--json", "--controller", self.controller]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Job(threading.Thread):
    """A job's life: mount, write and read back for a while, unmount, deregister."""

    def __init__(self, cluster, begun, plan):
        super().__init__()
        self.cluster, self.begun = cluster, begun
        self.name, self.arrives, self.stays, self.mib, self.rate = plan
        self.failure = None
        self.ended_at = None

    def run(self):
        try:
            time.sleep(max(0, self.begun + self.arrives - time.monotonic()))
            with tempfile.TemporaryDirectory() as folder:
                self.live(folder)
        except Exception as failure:
            self.failure = failure

    def live(self, folder):
        cluster = self.cluster
        hints = ["--capacity", f"{self.mib}MiB", "--bandwidth", f"{self.rate * MB}B/s"]
        mount = [cluster.folder / "pocket-mount", self.name, folder]
        mount += ["--controller", cluster.controller, *hints]
        subprocess.run(mount, check=True, capture_output=True)
        try:
            self.work(folder)
        finally:
            subprocess.run(["umount", folder], check=True)
        command = [cluster.folder / "pocket", "job", "deregister", self.name]
        subprocess.run([*command, "--controller", cluster.controller], check=True, capture_output=True)
        self.ended_at = time.monotonic()

    def work(self, folder):
        """Files of 8 MiB, two thirds of the capacity at a time, at half the hinted rate."""
        size = 8 << 20
        files = self.mib * (1 << 20) * 2 // 3 // size
        end, turn, digests = self.begun + self.arrives + self.stays, 0, {}
        while time.monotonic() < end:
            begun = time.monotonic()
            path = pathlib.Path(folder, f"part-{turn % files}")
            if path in digests:
                if hashlib.blake2b(path.read_bytes()).digest() != digests[path]:
                    raise RuntimeError(f"{path} is not what was written")
            data = os.urandom(1 << 16) * (size >> 16)
            path.write_bytes(data)
            digests[path] = hashlib.blake2b(data).digest()
            turn += 1
            pause = 2 * size / (self.rate * MB / 2) - (time.monotonic() - begun)
            time.sleep(max(0, pause))


def sample(cluster, begun, samples, stop):
    while not stop.is_set():
        nodes = cluster.ask("nodes")
        status = cluster.ask("status")
        storage = [node for node in nodes if node["role"] == "storage" and node["alive"]]
        samples.append({
            "at": time.monotonic() - begun,
            "servers": len(storage),
            "staying": {node["endpoint"] for node in storage if not node["leaving"]},
            "reserved": sum(node["reserved_bytes"] for node in storage),
            "allocated": sum(node["reserved_bandwidth_bytes_per_second"] for node in storage),
            "used": sum(node["network_bytes_per_second"] for node in storage),
            "decisions": status["pool"]["decisions"] if status["pool"] else [],
        })
        stop.wait(SAMPLE_SECONDS)


def starts(samples):
    """Seconds from each decision to have more servers until so many take data."""
    seen, waits, open_since = 0, [], None
    for before, now in zip(samples, samples[1:]):
        grown = [d for d in now["decisions"][len(before["decisions"]):] if d["after"] > d["before"]]
        if grown and open_since is None:
            open_since = (before["at"], grown[-1]["after"])
        if open_since and len(now["staying"]) >= open_since[1]:
            waits.append(now["at"] - open_since[0])
            open_since = None
    return waits


def returns(samples, jobs, begun):
    """Seconds from the end of each job until what is reserved fell."""
    waits = []
    for job in jobs:
        ended = job.ended_at - begun
        before = [s["reserved"] for s in samples if s["at"] < ended - 1][-1]
        after = [s["at"] for s in samples if s["at"] >= ended and s["reserved"] < before]
        waits.append(max(0.0, after[0] - ended) if after else float("inf"))
    return waits


def draw(samples, jobs):
    """The figure as SVG: bandwidth over time above, servers below, jobs as bars."""
    width, left, right = 760, 60, 20
    last = samples[-1]["at"]
    top = max(max(s["allocated"], s["used"]) for s in samples) / MB * 1.15 or 1
    x = lambda at: left + at / last * (width - left - right)
    y = lambda rate: 240 - rate / MB / top * 200
    z = lambda count: 380 - count / (SERVERS_MAX + 1) * 100

    def steps(of, place):
        points, previous = [], None
        for s in samples:
            if previous is not None:
                points.append(f"{x(s['at']):.1f},{place(previous):.1f}")
            previous = of(s)
            points.append(f"{x(s['at']):.1f},{place(previous):.1f}")
        return " ".join(points)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 470" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="470" fill="#ffffff"/>']
    text = lambda at, down, words, more="": out.append(f'<text x="{at}" y="{down}" fill="#333" {more}>{words}</text>')
    for part in range(0, 5):
        rate = top / 4 * part * MB
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{y(rate):.1f}" y2="{y(rate):.1f}" stroke="#ddd"/>')
        text(left - 6, y(rate) + 4, f"{rate / MB:.0f}", 'text-anchor="end"')
    for count in range(0, SERVERS_MAX + 1, 2):
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{z(count):.1f}" y2="{z(count):.1f}" stroke="#ddd"/>')
        text(left - 6, z(count) + 4, count, 'text-anchor="end"')
    for second in range(0, int(last) + 1, 10):
        text(x(second), 398, second, 'text-anchor="middle"')
    text(left, 28, "bandwidth in MB/s: allocated (blue), used (orange)")
    text(left, 268, "storage servers")
    text(width - right, 412, "seconds", 'text-anchor="end"')
    out.append(f'<polyline fill="none" stroke="#1f6fb4" stroke-width="2" points="{steps(lambda s: s["allocated"], y)}"/>')
    out.append(f'<polyline fill="none" stroke="#e08214" stroke-width="1.5" points="{steps(lambda s: s["used"], y)}"/>')
    out.append(f'<polyline fill="none" stroke="#2b8a3e" stroke-width="2" points="{steps(lambda s: s["servers"], z)}"/>')
    for row, job in enumerate(jobs):
        down = 420 + row * 15
        begins, ends = x(job.arrives), x(min(last, job.arrives + job.stays))
        out.append(f'<rect x="{begins:.1f}" y="{down}" width="{ends - begins:.1f}" height="11" fill="#9aa7b4"/>')
        text(f"{begins + 4:.1f}", down + 10, job.name, 'font-size="10"')
    return "\n".join([*out, "</svg>", ""])


def main():
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        sys.exit(__doc__)
    figure = pathlib.Path(sys.argv[1] if len(sys.argv) == 2 else "elasticity.svg")
    for tool in ["umount"]:
        if not shutil.which(tool):
            sys.exit(f"{tool} is needed")
    samples, stop = [], threading.Event()
    with Cluster(binaries()) as cluster:
        begun = time.monotonic()
        sampler = threading.Thread(target=sample, args=(cluster, begun, samples, stop))
        sampler.start()
        jobs = [Job(cluster, begun, plan) for plan in JOBS]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        time.sleep(QUIET_AFTER)
        stop.set()
        sampler.join()
    for job in jobs:
        if job.failure:
            sys.exit(f"job {job.name}: {job.failure}")
    figure.write_text(draw(samples, jobs))
    decisions = samples[-1]["decisions"]
    for decision in decisions:
        print(f"{decision['before']} to {decision['after']} servers: {decision['reason']}")
    waits, freed = starts(samples), returns(samples, jobs, begun)
    print(f"servers serve after a decision within {max(waits, default=0):.1f} s")
    print(f"capacity is free after the end of a job within {max(freed):.1f} s")
    print(f"servers: {min(s['servers'] for s in samples)} to {max(s['servers'] for s in samples)}, "
          f"{samples[-1]['servers']} at the end; drawn in {figure}")
    late = max(waits, default=0) > PROMISED_SECONDS or max(freed) > PROMISED_SECONDS
    if late or samples[-1]["servers"] != SERVERS_MIN:
        sys.exit("that is not what is promised")


main()
