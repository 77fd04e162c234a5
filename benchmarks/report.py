"""Make the tables, the plot and the README's figures from the measured rows.

python benchmarks/report.py            # results/*.md, results/*.png, and the README's table
python benchmarks/report.py --check    # fail if a table is not the one its rows give
"""

import argparse
import csv
import sys
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks: python benchmarks/report.py -->\n", "<!-- /benchmarks -->"

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if out of date")
    options = parser.parse_args()
    pages = {README: readme(HERE / "results" / "cpu.csv")}
    for path in sorted((HERE / "results").glob("*.csv")):
        pages[path.with_suffix(".md")] = page(path)
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if options.check:
        for path in stale:
            print(f"{path.relative_to(HERE.parent)} is not what its rows give", file=sys.stderr)
        raise SystemExit(bool(stale))
    for path in stale:
        path.write_text(pages[path])
    for path in sorted((HERE / "results").glob("*.csv")):
        plot(cases(path), path.with_suffix(".png"))


def cases(path: Path) -> list[list[Row]]:
    """The rows of each case, ours first."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [list(group) for _, group in groupby(rows, lambda r: (r["name"], r["size"]))]


def microseconds(text: str) -> str:
    value = float(text)
    for unit, scale in (("s", 1e6), ("ms", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g} µs"


def ratio(rows: list[Row], contender: str) -> str:
    """How many times ours the contender takes."""
    found = [row for row in rows if row["contender"] == contender]
    return number(float(found[0]["median_us"]) / float(rows[0]["median_us"])) if found else ""


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def table(groups: list[list[Row]]) -> str:
    names = ("eager", "compiled", "reference")
    head = ["work", "size", "ours", *names, "others", "over the floor"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for rows in groups:
        ours = rows[0]
        floor = ours["floor_us"]
        over = number(float(ours["median_us"]) / float(floor)) if floor else ""
        cells = [ours["name"], ours["size"], microseconds(ours["median_us"])]
        others = [row["contender"] for row in rows if row["contender"] not in ("ours", *names)]
        listed = ", ".join(f"{name} {ratio(rows, name)}" for name in others)
        ratios = [ratio(rows, name) for name in names]
        lines.append("| " + " | ".join([*cells, *ratios, listed, over]) + " |")
    return "\n".join(lines) + "\n"


def setting(groups: list[list[Row]]) -> str:
    row = groups[0][0]
    kernels = f", {row['cpu_level']} kernels" if row["device"] == "cpu" else ""
    measured = {rows[0]["group"]: rows[0]["commit"] for rows in groups}
    commits = ", ".join(f"{group} at {commit}" for group, commit in measured.items())
    return f"{row['device']}, {row['threads']} threads{kernels}, torch {row['torch']}; {commits}"


def page(path: Path) -> str:
    groups = cases(path)
    lines = [
        f"# Benchmarks: {groups[0][0]['device']}\n",
        "Medians of interleaved runs. The columns after *ours* say how many times our time each "
        "contender takes (below 1, it wins); *over the floor* is our time over that of moving the "
        "same bytes at the bandwidth of a large copy in the same run.\n",
    ]
    for name, members in groupby(groups, lambda rows: rows[0]["group"]):
        listed = list(members)
        lines += [f"## {name}\n", f"{setting(listed)}\n", table(listed), details(listed)]
    return "\n".join(lines)


def details(groups: list[list[Row]]) -> str:
    head = ["work", "size", "threads", "quartiles", "ns an element", "of the floor"]
    head += ["peak memory, ours", "eager", "error vs float64"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for rows in groups:
        ours = rows[0]
        eager = [row for row in rows if row["contender"] == "eager"]
        cells = [
            ours["name"], ours["size"], ours["threads"],
            f"{microseconds(ours['low_us'])} to {microseconds(ours['high_us'])}",
            per_element(ours, "median_us"), per_element(ours, "floor_us"),
            megabytes(ours), megabytes(eager[0]) if eager else "", ours["error"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def per_element(row: Row, column: str) -> str:
    if not row["elements"] or not row[column]:
        return ""
    return f"{1e3 * float(row[column]) / int(row['elements']):.2f}"


def megabytes(row: Row) -> str:
    return f"{int(row['peak_bytes']) / 2**20:.3g} MiB"


def readme(path: Path) -> str:
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    shown = [rows for rows in cases(path) if rows[0]["headline"] == "1"]
    block = f"{table(shown)}\n{setting(shown)}.\n"
    return before + BEGIN + block + END + after


def plot(groups: list[list[Row]], path: Path) -> None:
    """Ratios to our time, one line of marks a case, on a logarithmic axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 1.2 + 0.28 * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    contenders = sorted({row["contender"] for rows in groups for row in rows} - {"ours"})
    for index, contender in enumerate(contenders):
        points = [
            (float(row["median_us"]) / float(rows[0]["median_us"]), line)
            for line, rows in enumerate(groups)
            for row in rows
            if row["contender"] == contender
        ]
        marker = "osD^vP*X"[index % 8]
        axes.scatter(*zip(*points, strict=True), label=contender, marker=marker, zorder=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("time over ours (right of the line: we are faster)")
    axes.set_yticks(range(len(groups)), [f"{r[0]['name']}, {r[0]['size']}" for r in groups])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.4)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    FigureCanvasAgg(figure).print_png(path)


if __name__ == "__main__":
    main()
