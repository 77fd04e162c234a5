"""Building the CUDA sources for the host, and calling their launch functions.

The library is csrc/cuda/*.cu compiled by the host compiler against csrc/testing/host_cuda, with
every memory access instrumented (-fsanitize=thread, whose callbacks csrc/testing provides).
"""

import ctypes
import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

CSRC = Path(__file__).parents[2] / "csrc"
KERNELS = [
    str(path.relative_to(CSRC))
    for folder in ("cuda", "testing")
    for path in sorted((CSRC / folder).glob("*.cu"))
]
COMMON = [
    "-std=c++20",
    "-g",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-gnu-unique",
    "-ffp-contract=off",
]
CHECKS = "thread,alignment,bounds,shift,signed-integer-overflow,integer-divide-by-zero"
DEVICE = [
    *["-O0", "-x", "c++", "-DGENCORE_HOST_EXECUTOR", "-include", "cuda_runtime.h"],
    f"-fsanitize={CHECKS}",
    *["-fno-toplevel-reorder", "-fno-threadsafe-statics", "-Wno-unknown-pragmas", "-Wno-tsan"],
]
DTYPES = {torch.float64: 0, torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}


def compiler() -> str | None:
    """The g++ whose sanitiser callbacks the executor implements."""
    name = os.environ.get("CXX", "g++")
    return name if "clang" not in name and shutil.which(name) else None


def build(shared: Path) -> ctypes.CDLL:
    """The library of the sources as they are, compiled by the first process that asks for it."""
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "executor.so").exists():
            source = shared / "csrc"
            shutil.copytree(CSRC, source, dirs_exist_ok=True)
            executor = sorted((source / "testing").glob("*.cpp"))
            compile_all(shared, [*(source / name for name in KERNELS), *executor])
            link(shared, list(shared.glob("*.o")))
    return load(shared / "executor.so")


def build_faulty(
    shared: Path,
    folder: Path,
    faults: Sequence[tuple[str, str, str]],
    kernels: Sequence[str] = KERNELS,
) -> ctypes.CDLL:
    """The library with `faults` planted: (file, text, its replacement). Of `kernels`, those that
    include these files are compiled again; the others stay sound."""
    build(shared)
    source = folder / "csrc"
    shutil.copytree(CSRC, source)
    for name, text, replacement in faults:
        path = source / name
        content = path.read_text()
        assert content.count(text) == 1, f"{name} has {content.count(text)} times {text!r}"
        path.write_text(content.replace(text, replacement))
    faulty = {(shared / "csrc" / name).resolve() for name, *_ in faults}
    stale = [
        name
        for name in kernels
        if faulty & dependencies((shared / Path(name).name).with_suffix(".d"))
    ]
    assert stale, f"no kernel includes any of {[name for name, *_ in faults]}"
    compile_all(folder, [source / name for name in stale])
    sound = [path for path in shared.glob("*.o") if not (folder / path.name).exists()]
    link(folder, [*folder.glob("*.o"), *sound])
    return load(folder / "executor.so")


def dependencies(makefile: Path) -> set[Path]:
    words = makefile.read_text().replace("\\\n", " ").split()
    return {Path(word).resolve() for word in words[1:]}


def compile_all(folder: Path, sources: Sequence[Path]) -> None:
    """Compile to objects in the folder, beside the names of all that they include."""
    include = f"-I{folder}/csrc/testing/host_cuda"
    commands = [
        [compiler(), *COMMON, *([*DEVICE, include] if path.suffix == ".cu" else ["-O2"]), "-MMD",
         "-c", str(path)]
        for path in sources
    ]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda command: run(command, folder), commands):
            assert result.returncode == 0, result.stderr


def link(folder: Path, objects: Sequence[Path]) -> None:
    words = [compiler(), "-shared", "-o", "executor.so", *map(str, objects)]
    result = run([*words, "-Wl,-Bsymbolic", "-ldl"], folder)
    assert result.returncode == 0, result.stderr


def load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.host_executor_add_tensor.argtypes = [
        ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_bool, ctypes.c_bool,
    ]  # fmt: skip
    library.host_executor_seed.argtypes = [ctypes.c_uint64]
    return library


def run(command: list[str | None], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False
    )


class Device:
    """Calls of one library, with the memory that a kernel may touch declared for each."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def seed(self, seed: int) -> None:
        self.library.host_executor_seed(seed)

    def call(
        self, name: str, *arguments: object, read: list[Tensor], written: list[Tensor]
    ) -> str | None:
        """Run a launch function; its error, if any.

        A tensor in both lists is updated in place; one that is only written is not initialised.
        """
        self.library.host_executor_forget_tensors()
        for tensor in {t.data_ptr(): t for t in [*read, *written]}.values():
            is_read = any(t is tensor for t in read)
            self.library.host_executor_add_tensor(
                b"tensor", tensor.data_ptr(), tensor.numel() * tensor.element_size(),
                any(t is tensor for t in written), is_read,
            )  # fmt: skip
        function = getattr(self.library, f"run_{name}")
        function.restype = ctypes.c_char_p
        words = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
        error = function(*words)
        return None if error is None else error.decode()


def accumulation(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def shifted(values: Tensor, elements: int) -> Tensor:
    """A copy that begins `elements` after an address that any vector access is aligned to."""
    room = torch.zeros(values.numel() + elements, dtype=values.dtype)
    room[elements:] = values.flatten()
    return room[elements:].view(values.shape)


class Noise(ctypes.Structure):
    _fields_ = [
        ("tensor", ctypes.c_void_p), ("key", ctypes.c_void_p), ("first", ctypes.c_int64),
    ]  # fmt: skip


_SETTINGS = [
    ("dtype", ctypes.c_int), ("numel", ctypes.c_int64), ("chain_size", ctypes.c_int64),
    ("x", ctypes.c_void_p), ("grad", ctypes.c_void_p), ("noise", Noise),
    ("step_sizes", ctypes.c_void_p), ("noise_scales", ctypes.c_void_p),
    *((name, ctypes.c_double) for name in (
        "step_size", "noise_scale", "prior_precision", "grad_clamp", "clamp_min", "clamp_max")),
]  # fmt: skip


def _structure(name: str, *pointers: str) -> type[ctypes.Structure]:
    fields = [*_SETTINGS, *((pointer, ctypes.c_void_p) for pointer in pointers)]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {
    "langevin_step": _structure("LangevinStep", "out"),
    "langevin_backward": _structure(
        "LangevinBackward", "grad_out", "x_grad", "grad_grad", "noise_grad"
    ),
    "langevin_tangent": _structure(
        "LangevinTangent", "x_tangent", "grad_tangent", "noise_tangent", "out"
    ),
}


class Mlp(ctypes.Structure):
    """A network, from its weight and bias tensors."""

    _fields_ = [
        ("layers", ctypes.c_int), ("widths", ctypes.c_int64 * 6), ("weights", ctypes.c_void_p * 5),
        ("biases", ctypes.c_void_p * 5), ("activation", ctypes.c_int),
        ("negative_slope", ctypes.c_double),
    ]  # fmt: skip


STRUCTURES["mlp_langevin_chain"] = type(
    "MlpLangevinChain",
    (ctypes.Structure,),
    {
        "_fields_": [
            *_SETTINGS, ("mlp", Mlp), ("num_steps", ctypes.c_int64), ("thin", ctypes.c_int64),
            ("out", ctypes.c_void_p),
        ]
    },
)  # fmt: skip
STRUCTURES["mlp_hmc_chain"] = type(
    "MlpHmcChain",
    (ctypes.Structure,),
    {
        "_fields_": [
            ("dtype", ctypes.c_int), ("chains", ctypes.c_int64), ("first_chain", ctypes.c_int64),
            ("first_uniform", ctypes.c_int64), ("mlp", Mlp),
            *((n, ctypes.c_void_p) for n in ("x", "key", "step_sizes", "inverse_masses")),
            *((n, ctypes.c_double) for n in (
                "step_size", "inverse_mass", "prior_precision", "max_energy_error")),
            *((n, ctypes.c_int64) for n in ("num_leapfrog", "num_steps", "thin")),
            *((n, ctypes.c_void_p) for n in (
                "out", "energy", "acceptance_rate", "num_accepted", "num_divergent")),
        ]
    },
)  # fmt: skip


class PhiloxFill(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int), ("words", ctypes.c_bool), ("numel", ctypes.c_int64),
        ("first", ctypes.c_int64), ("key", ctypes.c_void_p), ("out", ctypes.c_void_p),
    ]  # fmt: skip


STRUCTURES["philox_fill"] = PhiloxFill
