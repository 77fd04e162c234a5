# Sets op_tests: the operators' own tests, for other builds and devices than the installed one.
op_tests=(python_tests/test_fuzz*.py)
for op in actnorm affine_coupling conv_network dequantize gaussian_nll langevin_step leapfrog_ops \
  in_place_operands made_inverse masked_coupling metropolis_accept mlp_chains mlp_network nuts_leaf \
  random replica_swap spline_op squeeze2d stochastic_gradient_ops; do
  op_tests+=("python_tests/test_$op.py")
done
