// Every operator's schema. Implementations are registered by family in ops/, derivatives and
// shape functions in gencore/ops/.
#include <torch/csrc/stable/library.h>

// What a Langevin step needs beside its tensors, in the order of every schema of the family.
#define GENCORE_LANGEVIN_SETTINGS                                                 \
  "Tensor? key, Tensor? step_sizes, Tensor? noise_scales, float step_size, "      \
  "float noise_scale, float prior_precision, float grad_clamp, float clamp_min, " \
  "float clamp_max, int first_element"

#define GENCORE_MLP \
  "Tensor x, Tensor parameters, int[] widths, int activation, float negative_slope, "

STABLE_TORCH_LIBRARY(gencore, m) {
  // An operator with a registered derivative pays for a Python call even where none is wanted, so
  // each form that samplers call has a schema of its own.
  m.def("langevin_step(Tensor x, Tensor grad, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS
        ") -> Tensor");
  m.def("langevin_step.no_autograd(Tensor x, Tensor grad, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS
        ") -> Tensor");
  m.def("langevin_step_(Tensor(a!) x, Tensor grad, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS
        ") -> ()");
  m.def(
      "langevin_step_.plain(Tensor(a!) x, Tensor grad, Tensor key, float step_size, "
      "float noise_scale) -> ()");
  m.def(
      "langevin_step_backward(Tensor grad_out, Tensor? x, Tensor? grad, Tensor? "
      "noise, " GENCORE_LANGEVIN_SETTINGS
      ", bool needs_x, bool needs_grad, bool needs_noise) -> (Tensor, Tensor, Tensor)");
  m.def(
      "langevin_step_tangent(Tensor like, Tensor? x_tangent, Tensor? grad_tangent, "
      "Tensor? noise_tangent, Tensor? x, Tensor? grad, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS
      ") -> Tensor");
  m.def("mlp_langevin_chain(" GENCORE_MLP
        "int num_steps, int thin, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS ") -> Tensor");
  m.def("mlp_langevin_chain.no_autograd(" GENCORE_MLP
        "int num_steps, int thin, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS ") -> Tensor");
  m.def("mlp_hmc_chain(" GENCORE_MLP
        "int num_steps, int thin, int num_leapfrog, Tensor key, Tensor? step_sizes, "
        "Tensor? inverse_masses, float step_size, float inverse_mass, float prior_precision, "
        "float max_energy_error, int first_chain) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("philox_normal(Tensor key, int[] size, ScalarType dtype, int first_element) -> Tensor");
  m.def("philox_words(Tensor key, int[] size, int first_element) -> Tensor");
}
