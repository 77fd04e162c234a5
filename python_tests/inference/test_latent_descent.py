"""Descent of latents on losses of which the minimum is known: least squares."""

import pytest
import torch

from gencore.inference import infer_latents
from gencore.nn import DeltaCode

N, K, CODE, FRAME = 5, 3, 7, 9


class LinearDecoder:
    """‖B(z² + diag(u) W δ) − y‖² of random numbers, and its least squares by `lstsq`."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.layer = DeltaCode(CODE, K, init_std=0.5).double()
        self.decoder = torch.randn(FRAME, CODE, dtype=torch.float64)
        self.z1, self.z2 = torch.randn(2, N, CODE, dtype=torch.float64)
        self.target = torch.randn(N, FRAME, dtype=torch.float64)

    def loss(self, delta, rows=slice(None)):
        predicted = self.layer(self.z1[rows], self.z2[rows], delta) @ self.decoder.T
        return (predicted - self.target[rows]).square().sum(1)

    def design(self):
        """B diag(u) W of each row, [N, FRAME, K], and what it is to explain, [N, FRAME]."""
        slopes = self.layer.affine(self.z1, self.z2)[1].detach()
        return self.decoder @ slopes.mT, self.target - self.z2 @ self.decoder.T

    def minimum(self):
        matrix, rest = self.design()
        return torch.linalg.lstsq(matrix, rest[..., None]).solution[..., 0]

    def step_sizes(self):
        """1/λ of each row, of the largest eigenvalue of its Hessian 2AᵀA."""
        return 1 / (2 * torch.linalg.matrix_norm(self.design()[0], 2) ** 2)


@pytest.fixture(scope="module")
def problem():
    return LinearDecoder()


def start():
    return torch.zeros(N, K, dtype=torch.float64)


@pytest.fixture(scope="module")
def found(problem):
    """δ after many steps of 1/λ."""
    return infer_latents(problem.loss, start(), num_steps=600, step_size=problem.step_sizes())


def test_a_linear_decoder_leads_to_least_squares(problem, found):
    """With a step of 1/λ of the largest eigenvalue, and no step up on the way."""
    step_size = problem.step_sizes()
    delta, last = start(), problem.loss(start())
    for _ in range(50):
        delta = infer_latents(problem.loss, delta, num_steps=1, step_size=step_size)
        value = problem.loss(delta)
        assert (value <= last).all()
        last = value
    torch.testing.assert_close(found, problem.minimum(), rtol=0, atol=1e-10)


def test_at_the_minimum_the_gradient_by_parameters_is_the_whole_one(problem, found):
    """d/dW min_δ L(δ, W) = ∂L/∂W(δ*, W): by a derivative through the solution of lstsq."""
    weight = problem.layer.weight
    (partial,) = torch.autograd.grad(problem.loss(found).sum(), weight)
    slopes = problem.layer.affine(problem.z1, problem.z2)[1]
    matrix, (_, rest) = problem.decoder @ slopes.mT, problem.design()
    # The normal equations, which autograd differentiates.
    best = torch.linalg.solve(matrix.mT @ matrix, matrix.mT @ rest[..., None])
    (whole,) = torch.autograd.grad((matrix @ best - rest[..., None]).square().sum(), weight)
    torch.testing.assert_close(partial, whole, rtol=0, atol=1e-10)


def test_small_steps_descend_on_a_network():
    torch.manual_seed(0)
    decoder = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    target = torch.randn(32, 4)

    def loss(delta):
        return (decoder(delta) - target).square().sum(1)

    delta = infer_latents(loss, torch.zeros(32, 8), num_steps=10, step_size=0.01)
    assert (loss(delta) < loss(torch.zeros(32, 8))).all()


def test_a_row_does_not_depend_on_the_others(problem):
    def run(rows):
        return infer_latents(
            lambda delta: problem.loss(delta, rows), start()[rows], num_steps=7, step_size=0.01
        )

    rows = torch.tensor([3, 1])
    torch.testing.assert_close(run(rows), run(slice(None))[rows], rtol=0, atol=1e-14)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_parameters_and_modes_are_left_alone(problem, mode):
    weight, first = problem.layer.weight, start()
    with mode():
        before = torch.is_grad_enabled()
        delta = infer_latents(problem.loss, first, num_steps=3, step_size=0.01)
        assert torch.is_grad_enabled() is before
    assert not delta.requires_grad
    assert weight.grad is None
    assert weight.requires_grad
    assert torch.equal(first, start())
    expected = infer_latents(problem.loss, start(), num_steps=3, step_size=0.01)
    assert torch.equal(delta, expected)


def test_parameters_get_no_gradient_even_within_the_loop():
    class Counting(torch.autograd.Function):
        calls = 0

        @staticmethod
        def forward(ctx, weight):
            return weight.clone()

        @staticmethod
        def backward(ctx, grad):
            Counting.calls += 1
            return grad

    weight = torch.ones(1, requires_grad=True)
    infer_latents(
        lambda x: (Counting.apply(weight) * x).square().sum(1), torch.ones(2, 1),
        num_steps=3, step_size=0.1,
    )  # fmt: skip
    assert Counting.calls == 0


def test_no_steps_give_a_copy_of_the_start(problem):
    first = start()
    delta = infer_latents(problem.loss, first, num_steps=0, step_size=0.1)
    assert torch.equal(delta, first)
    assert delta.data_ptr() != first.data_ptr()


def test_a_loss_that_knows_its_gradient_is_asked_for_it():
    class Square:
        def __call__(self, x):
            raise AssertionError

        def energy_and_grad(self, x):
            return x.square().sum(1), 2 * x

    x = infer_latents(Square(), torch.ones(2, 3), num_steps=2, step_size=0.25)
    assert torch.equal(x, torch.full((2, 3), 0.25))


def test_rows_of_any_shape_with_steps_of_their_own():
    step_size = torch.tensor([0.0, 0.25, 0.5])
    x = infer_latents(
        lambda x: x.square().sum((1, 2)), torch.ones(3, 2, 2), num_steps=1, step_size=step_size
    )
    assert torch.equal(x, torch.tensor([1.0, 0.5, 0.0])[:, None, None].expand(3, 2, 2))


def square(x):
    return x.square().sum(1)


@pytest.mark.parametrize(
    ("loss", "options", "error", "message"),
    [
        (lambda x: square(x).sum(), {}, ValueError, r"loss\(latents\) has shape \[\] for x"),
        (lambda x: square(x).detach(), {}, ValueError, r"loss\(latents\) is not differentiable"),
        (lambda x: 3.0, {}, TypeError, r"loss\(latents\) is a float; expected a tensor with one"),
        (square, {"num_steps": -1}, ValueError, "num_steps must not be negative, got -1"),
        (square, {"step_size": -0.1}, ValueError, "step_size must be finite and not negative"),
        (square, {"step_size": torch.ones(3)}, ValueError, r"step_size has shape \[3\]"),
        (square, {"start": torch.ones(2, 1).long()}, TypeError, "start is torch.int64"),
        (
            lambda x: square(x) * torch.tensor([1.0, torch.inf]), {}, ValueError,
            r"the latents of 1 of 2 rows \(the first is row 1\) are not finite",
        ),
        (square, {"step_size": 1e30}, ValueError, "for which the remedy is a smaller step_size"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(loss, options, error, message):
    options = {"start": torch.ones(2, 1), "num_steps": 4, "step_size": 0.1} | options
    with pytest.raises(error, match=f"^infer_latents: .*{message}"):
        infer_latents(loss, **options)
