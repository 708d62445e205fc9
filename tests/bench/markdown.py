"""The report of a comparison as Markdown tables."""

MIB = 1 << 20

# What the project has set itself for this comparison: rows, the least advantage over MooseFS, and its wording.
TARGETS = [
    (["write1_MiBs", "write4_MiBs", "read1_cold_MiBs", "read4_cold_MiBs"], 2, "sequential read and write at least 2x"),
    (["total_s"], 3, "shuffle at least 3x"),
    (
        ["create1", "read1_cold", "unlink1", "create4", "read4_cold", "unlink4"],
        3,
        "create + write + close, read and unlink of small files at least 3x",
    ),
    (["put1K_p50us", "get1K_p50us"], 3, "put and get of 1 KiB at most 1/3 of the p50"),
]

SECTION_TITLES = {
    "a": "Sequential, 1 MiB blocks",
    "b": "Files of 4 KiB",
    "c": "Random, 4 KiB over 256 MiB",
    "d": "Objects, one after the other",
    "e": "Source tree",
    "f": "Shuffle, 32 x 32 x 256 KiB, 4 processes",
    "g": "Seen by a second mount right after the change",
}


def render(report: dict) -> str:
    """All tables."""
    parts = [machine(report), results(report), targets(report), memory(report), cpu(report), fill(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table with the first column to the left and numbers to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [header, rule, *rows])


def number(value: float | None, unit: str) -> str:
    """A value with the digits that mean something."""
    if value is None:
        return "-"
    decimals = {"s": 3, "us": 1}.get(unit, 0 if value >= 10 else 1)
    return f"{value:,.{decimals}f}".replace(",", " ")


def ratio(value: float | None) -> str:
    """A ratio; a loss stands out."""
    if value is None:
        return "-"
    text = f"{value:.2f}" if value < 10 else f"{value:.1f}"
    return text if float(text) >= 1 else f"**{text}**"


def machine(report: dict) -> str:
    """One paragraph on the machine and the run."""
    facts, bench = report["machine"], report["bench"]
    return (
        f"{facts['cpus']} CPUs ({facts['processor']}), {facts['memory_gib']} GiB of memory, Linux {facts['kernel']}; "
        f"{facts['moosefs'] or 'no MooseFS'}; Pocket at {facts['commit']}; {facts['date']}. "
        f"Medians of {bench['repeat']} interleaved repetitions, scale {bench['scale']:g}; before cold rows the kernel's "
        f"caches were dropped{' and the directory mounted anew' if bench['remount'] else ''}. "
        f"Command: `{report['command']}`."
    )


def results(report: dict) -> str:
    """Medians and ratios of every row, by section."""
    systems, parts = report["systems"], []
    header = ["", "unit", *systems, *[f"{systems[0]} / {other}" for other in systems[1:]]]
    for section, title in SECTION_TITLES.items():
        rows = [
            [row["title"], row["unit"], *[number(value, row["unit"]) for value in row["medians"]]]
            + [ratio(value) for value in row["advantages"]]
            for row in report["bench"]["rows"]
            if row["section"] == section
        ]
        if rows:
            parts.append(f"### {title}\n\n{table(header, rows)}")
    parts.append("Ratios: how many times better Pocket is, for rates and times alike; losses in bold.")
    for failure in report["bench"]["failures"]:
        parts.append(f"Failed: section {failure['section']}: {failure['message']}")
    return "\n\n".join(parts)


def targets(report: dict) -> str:
    """Which of the project's own bars are reached."""
    if "moosefs" not in report["systems"]:
        return ""
    column = report["systems"].index("moosefs") - 1
    advantages = {row["key"]: row["advantages"][column] for row in report["bench"]["rows"]}
    rows = []
    for keys, least, wording in TARGETS:
        found = [(key, advantages.get(key)) for key in keys]
        if any(value is not None for _, value in found):
            met = all(value is not None and value >= least for _, value in found)
            values = ", ".join(f"{key} {ratio(value)}" for key, value in found)
            rows.append([wording, values, "met" if met else "**missed**"])
    return f"### Against MooseFS\n\n{table(['target', 'reached', ''], rows)}" if rows else ""


def memory(report: dict) -> str:
    """Memory of every process."""
    rows = []
    for role, usage in report["processes"].items():
        sizes = [usage["start_bytes"], usage["peak_bytes"], usage["end_bytes"]]
        rows.append([role, *[number(size / MIB, "MiB") for size in sizes], f"{usage['cpu_seconds']:.1f}"])
    sizes = report["pocket"]
    note = (
        f"The budget of a Pocket mount was {sizes['budget_bytes'] // MIB} MiB, "
        f"the capacity of each storage server {sizes['server_bytes'] // MIB} MiB."
    )
    header = ["process", "at start, MiB", "peak, MiB", "at the end, MiB", "CPU, s"]
    return f"### Memory through the whole run\n\n{table(header, rows)}\n\n{note}"


def cpu(report: dict) -> str:
    """CPU seconds by section and process, per repetition."""
    sections = sorted({section for spent in report["cpu_seconds"].values() for section in spent})
    repeat = report["bench"]["repeat"]
    rows = [
        [role, *[f"{spent.get(section, 0) / repeat:.2f}" for section in sections]]
        for role, spent in report["cpu_seconds"].items()
    ]
    return f"### CPU seconds per repetition, by section\n\n{table(['process', *sections], rows)}" if rows else ""


def fill(report: dict) -> str:
    """How much memory a full storage server takes."""
    rows = []
    for one in report.get("fill", []):
        server = next(usage for role, usage in one["processes"].items() if role.startswith("pocket storage"))
        rows.append(
            [
                one["files"],
                number(one["first"]["bytes"] / MIB, "MiB"),
                one["first"]["error"],
                f"{one['first']['freed_in_s']:.2f}",
                number(one["second"]["bytes"] / MIB, "MiB"),
                number(server["start_bytes"] / MIB, "MiB"),
                number(server["peak_bytes"] / MIB, "MiB"),
                f"{server['peak_bytes'] / one['server_bytes']:.3f}",
            ]
        )
    if not rows:
        return ""
    header = ["filled with", "held, MiB", "then", "freed in, s", "held again, MiB", "empty server, MiB", "peak, MiB", "peak / capacity"]
    size = report["fill"][0]["server_bytes"] // MIB
    return f"### A storage server of {size} MiB, filled to the brim\n\n{table(header, rows)}"
