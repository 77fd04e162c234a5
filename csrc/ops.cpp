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
// What a leapfrog step needs beside its tensors: step sizes [N], inverse masses [1 or N, 1 or D],
// and the numbers in force where they are missing.
#define GENCORE_LEAPFROG_COEFFICIENTS \
  "Tensor? step_sizes, Tensor? inverse_masses, float step_size, float inverse_mass"

#define GENCORE_METROPOLIS_PROPOSAL                                                 \
  "Tensor proposal, Tensor proposal_grad, Tensor proposal_energy, Tensor kinetic, " \
  "Tensor proposal_kinetic, Tensor? uniform, Tensor? key, int first_chain, float max_energy_error"

// A coefficient is a tensor or, where that is missing, the number of the same name.
#define GENCORE_SGHMC_SETTINGS                                                       \
  "Tensor grad, Tensor? noise, Tensor? key, Tensor? step_sizes, Tensor? frictions, " \
  "Tensor? inverse_masses, Tensor? noise_scales, float step_size, float friction, "  \
  "float inverse_mass, float noise_scale, int first_element"
#define GENCORE_CONV_NETWORK                                                         \
  "Tensor x, Tensor parameters, Tensor? context_term, int[] channels, int[] sides, " \
  "int activation, float negative_slope"
#define GENCORE_SPLINE                                                              \
  "Tensor x, Tensor widths, Tensor heights, Tensor derivatives, float tail_bound, " \
  "float bound, float min_width, float min_height, float min_derivative, bool inverse"
#define GENCORE_RIEMANNIAN_LANGEVIN_SETTINGS                                     \
  "Tensor grad, Tensor metric, Tensor? correction, Tensor? noise, Tensor? key, " \
  "Tensor? step_sizes, float step_size, int first_element"

// Kinds of scale and masks are numbered as in gencore/ops/affine_coupling_reference.py.
// Joint: raw_scale holds the raw scales and, in the second half of dimension 1, the shifts.
#define GENCORE_COUPLING_SETTINGS \
  "int kind, float bound, bool inverse, int mask, bool swap, bool joint"
#define GENCORE_COUPLING_BACKWARD                                      \
  "Tensor? grad_y, Tensor? grad_log_det, Tensor x, Tensor raw_scale, " \
  "Tensor? shift, " GENCORE_COUPLING_SETTINGS

STABLE_TORCH_LIBRARY(gencore, m) {
  m.def("langevin_step(Tensor x, Tensor grad, Tensor? noise, " GENCORE_LANGEVIN_SETTINGS
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
  m.def("mlp_hmc_chain(" GENCORE_MLP
        "int num_steps, int thin, int num_leapfrog, Tensor key, Tensor? step_sizes, "
        "Tensor? inverse_masses, float step_size, float inverse_mass, float prior_precision, "
        "float max_energy_error, int first_chain, int first_uniform) -> (Tensor, Tensor, Tensor, "
        "Tensor, Tensor)");
  m.def(
      "made_inverse(Tensor z, Tensor[] weights, Tensor[] biases, Tensor unit_ends, "
      "Tensor? context_term, int activation, float negative_slope, int scale, float bound) -> "
      "(Tensor, Tensor)");
  m.def(
      "leapfrog_start(Tensor x, Tensor grad, Tensor? noise, Tensor? "
      "key, " GENCORE_LEAPFROG_COEFFICIENTS ", int first_element) -> (Tensor, Tensor, Tensor)");
  m.def("leapfrog_step(Tensor x, Tensor momentum, Tensor grad, " GENCORE_LEAPFROG_COEFFICIENTS
        ") -> (Tensor, Tensor)");
  m.def("leapfrog_end(Tensor momentum, Tensor grad, " GENCORE_LEAPFROG_COEFFICIENTS
        ") -> (Tensor, Tensor)");
  m.def(
      "leapfrog_step_(Tensor(a!) x, Tensor(b!) momentum, Tensor "
      "grad, " GENCORE_LEAPFROG_COEFFICIENTS ") -> ()");
  m.def(
      "leapfrog_step_.plain(Tensor(a!) x, Tensor(b!) momentum, Tensor grad, float step_size, "
      "float inverse_mass) -> ()");
  m.def("metropolis_accept(Tensor x, Tensor grad, Tensor energy, " GENCORE_METROPOLIS_PROPOSAL
        ") -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "metropolis_accept_(Tensor(a!) x, Tensor(b!) grad, Tensor(c!) "
      "energy, " GENCORE_METROPOLIS_PROPOSAL ") -> (Tensor, Tensor, Tensor)");
  m.def(
      "nuts_leaf_(Tensor(a!) position, Tensor(b!) momentum, Tensor(c!) ends, "
      "Tensor(d!) checkpoints, Tensor(e!) drawn, Tensor(f!) energies, Tensor(g!) weights, "
      "Tensor(h!) counts, Tensor(i!) flags, Tensor energy, Tensor grad, Tensor "
      "key, " GENCORE_LEAPFROG_COEFFICIENTS
      ", int leaf, int first_chain, float max_energy_error) -> ()");
  m.def("sghmc_step(Tensor x, Tensor momentum, " GENCORE_SGHMC_SETTINGS ") -> (Tensor, Tensor)");
  m.def("sghmc_step_(Tensor(a!) x, Tensor(b!) momentum, " GENCORE_SGHMC_SETTINGS ") -> ()");
  m.def("riemannian_langevin_step(Tensor x, " GENCORE_RIEMANNIAN_LANGEVIN_SETTINGS ") -> Tensor");
  m.def("riemannian_langevin_step_(Tensor(a!) x, " GENCORE_RIEMANNIAN_LANGEVIN_SETTINGS ") -> ()");
  m.def(
      "replica_swap_(Tensor(a!) x, Tensor(b!) energy, Tensor(c!)? grad, Tensor(d!) is_accepted, "
      "Tensor inverse_temperature, Tensor? uniform, Tensor? key, int parity, int first_pair) -> "
      "()");
  m.def("affine_coupling(Tensor x, Tensor? raw_scale, Tensor? shift, " GENCORE_COUPLING_SETTINGS
        ") -> (Tensor, Tensor)");
  m.def("affine_coupling_backward(" GENCORE_COUPLING_BACKWARD
        ", bool needs_x, bool needs_raw_scale, bool needs_shift) -> (Tensor, Tensor, Tensor)");
  m.def(
      "affine_coupling_double_backward(Tensor? x_tangent, Tensor? raw_scale_tangent, "
      "Tensor? shift_tangent, " GENCORE_COUPLING_BACKWARD
      ") -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "affine_coupling_backward_from_output(Tensor y, Tensor raw_scale, Tensor? shift, "
      "Tensor grad_y, Tensor grad_log_det, " GENCORE_COUPLING_SETTINGS
      ", bool needs_shift) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("conv_network(" GENCORE_CONV_NETWORK ") -> Tensor");
  m.def("conv_network_backward(Tensor grad_out, " GENCORE_CONV_NETWORK
        ", bool needs_x) -> (Tensor, Tensor, Tensor)");
  m.def("rational_quadratic_spline(" GENCORE_SPLINE ") -> (Tensor, Tensor)");
  m.def("rational_quadratic_spline_backward(Tensor y_grad, Tensor log_det_grad, " GENCORE_SPLINE
        ") -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("philox_normal(Tensor key, int[] size, ScalarType dtype, int first_element) -> Tensor");
  m.def("philox_words(Tensor key, int[] size, int first_element) -> Tensor");
  m.def("actnorm(Tensor x, Tensor log_scale, Tensor bias, bool inverse) -> (Tensor, Tensor)");
  m.def("gaussian_nll(Tensor z, Tensor log_det) -> Tensor");
  m.def(
      "actnorm_backward(Tensor grad_out, Tensor grad_log_det, Tensor x, Tensor log_scale, "
      "Tensor bias, bool inverse) -> (Tensor, Tensor, Tensor)");
  m.def("squeeze2d(Tensor x, int factor, bool inverse) -> Tensor");
  m.def(
      "dequantize(Tensor x, Tensor? noise, Tensor? key, int bins, ScalarType dtype, "
      "int first_element) -> Tensor");
}
