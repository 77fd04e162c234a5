// gencore._C: facts about this build. Importing it also registers the operators with torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/headeronly/version.h>

#include <array>
#include <cstdint>

#include "cpu/kernels.h"
#include "math/philox.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled part of gencore; tensors go through torch.ops.gencore.";
  m.attr("version") = GENCORE_VERSION;
  m.attr("compiled_torch") = TORCH_VERSION;
  m.attr("cuda_architectures") = GENCORE_CUDA_ARCHITECTURES;  // empty in a CPU-only build
  m.attr("compiler") = GENCORE_COMPILER;
  m.attr("cpu_level") = gencore::cpu::kernels().level;
  m.def(
      "philox4x32_10",
      [](std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
        const auto out = gencore::philox4x32_10({{counter[0], counter[1], counter[2], counter[3]}},
                                                key[0], key[1]);
        return std::array<std::uint32_t, 4>{out.word[0], out.word[1], out.word[2], out.word[3]};
      },
      py::arg("counter"), py::arg("key"), "One block of the generator, for its known answers.");
}
