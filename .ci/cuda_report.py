"""What the CUDA compiler made of every kernel, for every architecture that CMakeLists.txt names.

Prints registers, static shared memory, stack frame, spills and the widths of global loads and
stores of each kernel, and fails where a kernel spills or keeps arrays in local memory without a
reason written below, or where an elementwise kernel does not move four elements at once.

Widths are read from the machine code where ``cuobjdump`` or ``nvdisasm`` is found: on PATH, beside
nvcc, or in a Python package (``pip install nvidia-cuda-nvdisasm``). Without, from the PTX, which
the report then says. No GPU is needed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Where a kernel may use local memory, and why: the end of its demangled name, and the architecture.
LOCAL_MEMORY_ALLOWED = {
    f"LeapfrogStepBody<{half}>>, sm_86": "8 bytes, for ptxas to keep six blocks on an SM"
    for half in ("BFloat16", "Float16")
} | {
    f"pixel_plan_kernel<double>, sm_{arch}": "32 bytes, around the calls that divide doubles"
    for arch in (75, 80, 86, 90)
}
# Elementwise bodies without vector loads, and why; their stores are held to the same width.
NO_VECTOR_LOADS = {"NormalBody": "reads no tensor"}
# How an elementwise kernel moves four elements: the number of accesses, and the bits of each.
FOUR_ELEMENTS = {"float": (1, 128), "double": (2, 128), "BFloat16": (1, 64), "Float16": (1, 64)}


@dataclass
class Kernel:
    """One kernel compiled for one architecture; widths are bits, with how often they occur."""

    name: str
    arch: str
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    loads: Counter[int] = field(default_factory=Counter)
    stores: Counter[int] = field(default_factory=Counter)


def parse_ptxas(text: str) -> dict[tuple[str, str], Kernel]:
    """The kernels in the output of ``ptxas -v``, by mangled name and architecture."""
    kernels: dict[tuple[str, str], Kernel] = {}
    kernel = None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            kernel = kernels[found[1], found[2]] = Kernel(found[1], found[2])
        if kernel is None:
            continue
        if found := re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line
        ):
            # A function that was not inlined is reported behind the kernel that calls it.
            stack, stores, loads = map(int, found.groups())
            kernel.stack = max(kernel.stack, stack)
            kernel.spill_stores += stores
            kernel.spill_loads += loads
        if found := re.search(r"Used (\d+) registers", line):
            kernel.registers = int(found[1])
            shared = re.search(r"(\d+) bytes smem", line)
            kernel.shared = int(shared[1]) if shared else 0
    return kernels


def parse_sass(text: str) -> Iterator[tuple[str, str, int]]:
    """(kernel, "load" or "store", bits) of each global access in a disassembly."""
    kernel = None
    for line in text.splitlines():
        if found := re.search(r"Function : (\S+)|^\.text\.(\S+):", line):
            kernel = found[1] or found[2]
        elif kernel and (found := re.search(r"\s(LDG|STG)((?:\.\w+)*)\s", line)):
            sizes = [int(size) for size in re.findall(r"\.[US]?(8|16|64|128|256)\b", found[2])]
            yield kernel, "load" if found[1] == "LDG" else "store", sizes[0] if sizes else 32


def parse_ptx(text: str) -> Iterator[tuple[str, str, int]]:
    """The same from PTX, the compiler's intermediate language."""
    kernel = None
    for line in text.splitlines():
        if found := re.search(r"\.entry (\w+)", line):
            kernel = found[1]
        elif kernel and (
            found := re.search(r"\b(ld|st)\.global(?:\.\w+)*?(?:\.v([248]))?\.[bfsu](\d+)\s", line)
        ):
            bits = int(found[2] or 1) * int(found[3])
            yield kernel, "load" if found[1] == "ld" else "store", bits


def complaints(kernels: Iterable[Kernel]) -> list[str]:
    """What the gate does not let pass."""
    found, allowances_used, archs = [], set(), set()
    for kernel in kernels:
        archs.add(kernel.arch)
        where = f"{kernel.name}, {kernel.arch}"
        if kernel.stack or kernel.spill_stores or kernel.spill_loads:
            reasons = [part for part in LOCAL_MEMORY_ALLOWED if where.endswith(part)]
            allowances_used.update(reasons)
            if not reasons:
                found.append(
                    f"{where}: {kernel.stack} bytes of stack, {kernel.spill_stores} of spill "
                    f"stores, {kernel.spill_loads} of spill loads"
                )
        elementwise = re.search(r"elementwise_kernel<(\w+)<(\w+)>>", kernel.name)
        if elementwise is None:
            continue
        body, (count, width) = elementwise[1], FOUR_ELEMENTS[elementwise[2]]
        if kernel.loads[width] < count and body not in NO_VECTOR_LOADS:
            found.append(f"{where}: fewer than {count} loads of {width} bits")
        if kernel.stores[width] < count:
            found.append(f"{where}: fewer than {count} stores of {width} bits")
    compiled = {part for part in LOCAL_MEMORY_ALLOWED if part.rpartition(" ")[2] in archs}
    unused = compiled - allowances_used
    return found + [f"{part}: allowed local memory, and uses none" for part in unused]


def table(kernels: Iterable[Kernel]) -> str:
    """The report as Markdown."""

    def widths(counts: Counter[int]) -> str:
        return ", ".join(f"{n}x{bits}" for bits, n in sorted(counts.items(), reverse=True)) or "-"

    header = ["kernel", "arch", "registers", "static shared", "stack", "spill st/ld", "loads"]
    rows = [[*header, "stores"]]
    rows += [
        [
            k.name, k.arch, str(k.registers), str(k.shared), str(k.stack),
            f"{k.spill_stores}/{k.spill_loads}", widths(k.loads), widths(k.stores),
        ]
        for k in kernels
    ]  # fmt: skip
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(n) for cell, n in zip(row, sizes, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (n + 2) for n in sizes) + "|")
    return "\n".join(lines)


def readable(names: Iterable[str]) -> dict[str, str]:
    """Mangled names to demangled ones without parameters and without the project's namespaces."""
    names = list(names)
    result = run(["c++filt", *names]).splitlines()
    short = {}
    for mangled, demangled in zip(names, result, strict=True):
        text = re.sub(r"\(anonymous namespace\)::|gencore::|cuda::|common::|^void ", "", demangled)
        short[mangled] = re.sub(r"\(.*", "", text).replace("> >", ">>")
    return short


def run(command: list[str]) -> str:
    """The standard output and error of a program that has to succeed."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


def find_disassembler(nvcc: str) -> list[str] | None:
    """The command that prints a cubin's machine code, if one is installed."""
    packages = Path(sysconfig.get_path("purelib"))
    folders = [
        Path(nvcc).resolve().parent,
        *sorted(packages.glob("nvidia/*/bin")),
        packages / "triton" / "backends" / "nvidia" / "bin",
    ]
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    for name, option in (("cuobjdump", "-sass"), ("nvdisasm", "-c")):
        if tool := shutil.which(name, path=path):
            return [tool, option]
    return None


def compile_kernels(
    nvcc: str, source: Path, archs: list[str], flags: list[str], folder: Path
) -> str:
    """Leave a cubin and a PTX file per architecture in ``folder``; returns ptxas' report."""
    folder.mkdir()
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    return run(
        [nvcc, "-std=c++17", "-O3", "-DNDEBUG", *flags, *codes, "-fatbin", "--keep",
         f"--keep-dir={folder}", "-o", str(folder / "all.fatbin"), str(source)]
    )  # fmt: skip


def report(nvcc: str, wanted: list[str] | None) -> tuple[list[Kernel], str]:
    """All kernels of the build, and where the widths of their accesses were read."""
    cmake = (ROOT / "CMakeLists.txt").read_text()
    sources = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    listed = re.search(r"foreach\(arch ([\d ]+)\)", cmake)
    options = re.search(r"\$<\$<COMPILE_LANGUAGE:CUDA>:(-[^>]+)>", cmake)
    if listed is None or options is None:
        sys.exit("CMakeLists.txt no longer names architectures or options as before")
    known = run([nvcc, "--list-gpu-code"]).split()
    archs = [arch for arch in wanted or listed[1].split() if f"sm_{arch}" in known]
    disassembler = find_disassembler(nvcc)
    kernels: dict[tuple[str, str], Kernel] = {}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(2) as pool:
        folders = [Path(scratch) / source.stem for source in sources]
        logs = pool.map(
            lambda job: compile_kernels(nvcc, job[0], archs, options[1].split(), job[1]),
            zip(sources, folders, strict=True),
        )
        for log in logs:
            kernels |= parse_ptxas(log)
        suffix = "cubin" if disassembler else "ptx"
        for file in (path for folder in folders for path in sorted(folder.glob(f"*.{suffix}"))):
            named = re.search(r"\.(?:compute|sm)_(\d+)", file.name)  # not where there is one alone
            arch = f"sm_{named[1] if named else archs[0]}"
            text = run([*disassembler, str(file)]) if disassembler else file.read_text()
            for name, kind, bits in (parse_sass if disassembler else parse_ptx)(text):
                kernel = kernels[name, arch]
                (kernel.loads if kind == "load" else kernel.stores)[bits] += 1
    names = readable(name for name, _ in kernels)
    for kernel in kernels.values():
        kernel.name = names[kernel.name]
    ordered = sorted(kernels.values(), key=lambda k: (k.name, int(k.arch[3:])))
    return ordered, Path(disassembler[0]).name if disassembler else "PTX: no disassembler found"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", action="append", help="only this architecture, e.g. 90")
    arguments = parser.parse_args()
    nvcc = shutil.which(os.environ.get("CUDACXX", "nvcc"))
    if nvcc is None:
        print("CUDA report skipped: no nvcc on PATH or in CUDACXX")
        return
    kernels, origin = report(nvcc, arguments.arch)
    print(table(kernels))
    print(f"\n{len(kernels)} kernels and architectures. Loads and stores: global memory, as")
    print(f"number x bits, from {origin}.")
    if not kernels:
        sys.exit("no kernel was compiled: is an architecture of CMakeLists.txt known to this nvcc?")
    if found := complaints(kernels):
        sys.exit("\n".join(["", "not allowed:", *found]))


if __name__ == "__main__":
    main()
