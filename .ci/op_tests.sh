# Sets op_tests: the operators' own tests, for other builds and devices than the installed one.
op_tests=(python_tests/ops/test_*.py)
