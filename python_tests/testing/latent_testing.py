"""Linear models of latents, whose densities are Gaussians in closed form."""

import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gencore.models import VAE, GaussianLikelihood
from gencore.nn import Transform

VARIANCE = 0.49


def double(values):
    return torch.tensor(values, dtype=torch.float64)


class Affine(Transform):
    """u = A⁻¹(z − b), for a lower triangular A."""

    def __init__(self, factor, shift):
        super().__init__()
        self.factor, self.shift = nn.Parameter(factor), nn.Parameter(shift)

    def forward(self, x, context=None):
        z = torch.linalg.solve_triangular(self.factor, (x - self.shift).T, upper=False).T
        return z, -self.factor.diagonal().log().sum().expand(len(x))

    def inverse(self, z, context=None):
        log_det = self.factor.diagonal().log().sum().expand(len(z))
        return z @ self.factor.T + self.shift, log_det


class LinearPosterior(nn.Module):
    """An encoder whose mean is affine in the data and whose standard deviations are constant."""

    def __init__(self, weight, shift, std):
        super().__init__()
        self.weight, self.shift, self.std = weight, shift, std

    def forward(self, x):
        mean = (x - self.shift[0]) @ self.weight.T + self.shift[1]
        return torch.cat([mean, self.std.log().expand_as(mean)], 1)


def probabilistic_pca(prior=None, prior_std=(1.0, 1.0), prior_mean=(0.0, 0.0), wider=1.0):
    """x = Wz + b + 0.7ε with orthogonal columns of W and z ~ N(m, diag s²): a VAE whose encoder is
    the exact posterior, but for a factor of its width, and the density of x."""
    decoder = nn.Linear(2, 3).double()
    with torch.no_grad():
        decoder.weight.copy_(double([[1.0, 2.0], [1.0, -2.0], [0.5, 0.0]]))
        decoder.bias.copy_(double([0.3, -1.0, 2.0]))
    weight, bias = decoder.weight.detach(), decoder.bias.detach()
    mean, precision = double(prior_mean), double(prior_std) ** -2
    posterior = (weight.T @ weight).diagonal() / VARIANCE + precision
    gain = weight.T / VARIANCE / posterior[:, None]
    encoder = LinearPosterior(gain, (bias, precision * mean / posterior), wider * posterior**-0.5)
    likelihood = GaussianLikelihood(math.sqrt(VARIANCE))
    model = VAE(encoder, decoder, 2, prior=prior, likelihood=likelihood).double()
    covariance = weight / precision @ weight.T + VARIANCE * torch.eye(3)
    return model, MultivariateNormal(bias + weight @ mean, covariance)
