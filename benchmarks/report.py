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
    names = ("eager", "compiled", "reference", "reference, compiled")
    head = ["work", "size", "ours", *names, "others", "over the floor"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for rows in groups:
        ours = rows[0]
        floor = ours["floor_us"]
        over = number(float(ours["median_us"]) / float(floor)) if floor else ""
        cells = [ours["name"], ours["size"], microseconds(ours["median_us"])]
        others = [row["contender"] for row in rows if row["contender"] not in ("ours", *names)]
        listed = "; ".join(f"{name} {ratio(rows, name)}" for name in others)
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
        "contender takes (below 1, it wins): *eager* is the best eager form a user would write, "
        "*reference* ours in pure PyTorch with the same noise, *compiled* either of them under "
        "torch.compile. *Over the floor* is our time over that of what no implementation can "
        "avoid, measured in the same run: the bytes at the bandwidth of a large copy, or the "
        "operations at the rate of a large float32 matrix product; below 1, the data stay in a "
        "cache, or a product of this shape is faster.\n",
        "## Where others win\n",
        "The contenders whose upper quartile lies below our lower one.\n",
        losses(groups),
    ]
    for name, members in groupby(groups, lambda rows: rows[0]["group"]):
        listed = list(members)
        lines += [f"## {name}\n", f"{setting(listed)}\n", table(listed), details(listed)]
    return "\n".join(lines)


def losses(groups: list[list[Row]]) -> str:
    """Who is faster than ours beyond the spread, where we lose most first."""
    lost = [
        (float(row["median_us"]) / float(ours["median_us"]), ours, row["contender"])
        for ours, *others in groups
        for row in others
        if not row["contender"].startswith(("ours", "floor"))
        and float(row["high_us"]) < float(ours["low_us"])
    ]
    lines = ["| work | size | contender | its time over ours |", "|---|---|---|---|"]
    for value, ours, contender in sorted(lost, key=lambda entry: entry[0]):
        lines.append(f"| {ours['name']} | {ours['size']} | {contender} | {number(value)} |")
    return "\n".join(lines) + "\n"


def details(groups: list[list[Row]]) -> str:
    head = ["work", "size", "threads", "quartiles", "ns an element", "floor, ns an element"]
    head += ["peak memory", "peak memory, eager", "error vs float64"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for rows in groups:
        ours = rows[0]
        eager = [row for row in rows if row["contender"] == "eager"]
        cells = [
            ours["name"], ours["size"], ours["threads"],
            f"{microseconds(ours['low_us'])} to {microseconds(ours['high_us'])}",
            per_element(ours, "median_us"), per_element(ours, "floor_us"),
            memory(ours), memory(eager[0]) if eager else "", ours["error"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def per_element(row: Row, column: str) -> str:
    if not row["elements"] or not row[column]:
        return ""
    return f"{1e3 * float(row[column]) / int(row['elements']):.2f}"


def memory(row: Row) -> str:
    value = float(row["peak_bytes"])
    for unit in ("B", "KiB", "MiB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


def readme(path: Path) -> str:
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    shown = [rows for rows in cases(path) if rows[0]["headline"] == "1"]
    block = f"{table(shown)}\n{setting(shown)}.\n"
    return before + BEGIN + block + END + after


def plot(groups: list[list[Row]], path: Path) -> None:
    """Ratios to our time, a line a case: the contenders', and the floor's where it is near."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 1.2 + 0.25 * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(1, color="black", linewidth=1)
    points = ratios(groups)
    # A colour and a shape for each kind; a variant of a kind ("eager, …") is hollow.
    kinds = sorted({name.split(",")[0] for name in points})
    for name in sorted(points):
        kind, _, variant = name.partition(",")
        color, marker = f"C{kinds.index(kind) % 10}", "osD^vP*Xdh"[kinds.index(kind) % 10]
        axes.scatter(
            *zip(*points[name], strict=True), label=name, marker=marker, zorder=3, alpha=0.9,
            edgecolors=color, facecolors="none" if variant else color,
        )  # fmt: skip
    floors = [
        (float(rows[0]["floor_us"]) / float(rows[0]["median_us"]), line)
        for line, rows in enumerate(groups)
        if rows[0]["floor_us"]
    ]
    if floors:
        axes.scatter(*zip(*floors, strict=True), label="floor", marker="|", s=90, color="0.5")
    start = 0
    for index, (group, members) in enumerate(groupby(groups, lambda rows: rows[0]["group"])):
        end = start + len(list(members))
        axes.axhspan(start - 0.5, end - 0.5, color="0.94" if index % 2 else "1", zorder=0)
        axes.annotate(
            group, (1, start - 0.3), xycoords=("axes fraction", "data"), xytext=(8, 0),
            textcoords="offset points", va="top", color="0.4", weight="bold",
        )  # fmt: skip
        start = end
    axes.set_xscale("log")
    axes.set_xlim(left=0.09)  # a tiny size's floor is far below what a call costs
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(axis="x", labeltop=True, top=True)
    axes.set_xlabel("time over ours (right of the line: we are faster)")
    axes.set_yticks(range(len(groups)), [f"{r[0]['name']}, {r[0]['size']}" for r in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.4)
    figure.legend(loc="outside upper center", ncols=6, frameon=False)
    FigureCanvasAgg(figure).print_png(path)


def ratios(groups: list[list[Row]]) -> dict[str, list[tuple[float, int]]]:
    """For each contender, (its time over ours, the case's line)."""
    points: dict[str, list[tuple[float, int]]] = {}
    for line, rows in enumerate(groups):
        for row in rows[1:]:
            value = float(row["median_us"]) / float(rows[0]["median_us"])
            points.setdefault(row["contender"], []).append((value, line))
    return points


if __name__ == "__main__":
    main()
