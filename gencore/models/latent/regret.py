"""Likelihood regret: how much better a model does on a data point that it may adapt to."""

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.inference.latent_adam import LatentAdam
from gencore.inference.latent_optimisation import optimise_latents
from gencore.inference.networks_of_rows import NetworkOfRows, with_parts
from gencore.inference.posterior_optimisation import optimise_posterior
from gencore.models.latent.decoder_model import DecoderModel
from gencore.models.latent.names import RegretOf
from gencore.models.latent.top_down_vae import TopDownVAE
from gencore.models.latent.vae import VAE
from gencore.nn.evaluating import evaluating
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import check_count, check_state
from gencore.ops.random import stream_key

__all__ = ["LikelihoodRegret", "likelihood_regret"]

_OP = "likelihood_regret"
_PARTS: dict[RegretOf, tuple[str, ...]] = {
    "encoder": ("encoder",), "decoder": ("decoder",), "both": ("encoder", "decoder"),
}  # fmt: skip
# Yan 2022, §4.2.6: 300 steps for the posterior, 100 for the encoder, at this learning rate.
_NUM_STEPS = {"latents": 300}
_LEARNING_RATE = 1e-4


class LikelihoodRegret(NamedTuple):
    """Of N data points, without a graph."""

    regret: Tensor
    """LR(x), after less before, [N], in nats: the higher, the less the data point is like the data.
    """
    before: Tensor
    """L_K(x; θ*, φ*), the bound of the model as it is, [N], in nats."""
    after: Tensor
    """L_K(x; θ*, τ̂(x)), the bound after the optimisation, [N], in nats."""
    reconstruction: Tensor
    """The expected data of the optimised posterior's mean, [N, ...]."""


def likelihood_regret(
    model: DecoderModel,
    x: Tensor,
    of: RegretOf = "encoder",
    *,
    num_samples: int,
    num_steps: int | None = None,
    learning_rate: float = _LEARNING_RATE,
    batch_size: int = 64,
    chunk_size: int | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> LikelihoodRegret:
    r"""The regret of a model for not having been fitted to each data point by itself, [N].

    .. math:: \hat\tau(x) = \arg\max_\tau L(x; \theta^*, \tau) \qquad (4.3)

    .. math:: \mathrm{LR}(x) = L_K(x; \theta^*, \hat\tau(x)) - L_K(x; \theta^*, \phi^*)
              \qquad (4.4)

    L is the bound of one latent, with its KL divergence in closed form where it has one, and L_K
    that of K importance-weighted latents. Adam starts from the trained model, for each data point
    anew, in

    ============  ========  ========================================================================
    ``of``                  what is optimised
    ============  ========  ========================================================================
    ``latents``   LR_Z      the mean and the logarithm of the standard deviation of q(z | x)
    ``encoder``   LR_E      the parameters φ of the encoder
    ``decoder``   LR_D      the parameters θ of the decoder, which fits anything: an ablation
    ``both``      LR_ED     both, likewise
    ============  ========  ========================================================================

    All data points of a batch are optimised at once, each with networks of its own
    (:class:`~gencore.inference.networks_of_rows.NetworkOfRows`). The model is in evaluation mode
    meanwhile and its parameters and buffers are not touched. Both bounds are of the same noise, so
    that a regret after no steps is 0. A score does not depend on the other data, on their order or
    on the size of the batches, but to rounding.

    K is a part of the score. With K = 1 its expectation is KL(q_φ ‖ p(z | x)) less
    KL(q̂ ‖ p(z | x)), the gap of amortisation. With K → ∞ both bounds are log p(x), so that LR_Z and
    LR_E vanish.

    Args:
        model: a model with an encoder, a decoder and a bound, such as :class:`VAE` or, but for
            "latents", :class:`TopDownVAE`.
        x: data [N, ...].
        of: what is optimised.
        num_samples: K.
        num_steps: of Adam; 300 for "latents" and 100 otherwise if None, as in the source.
        learning_rate: of Adam, 10⁻⁴ in the source.
        batch_size: data points at once; so many copies of what is optimised are in memory about
            eight times.
        chunk_size: how many latents of a data point are in memory at once, as in `log_prob_bound`.
        generator: draws the key where none is given.
        key: int64 [seed, offset] of the latents.
        first: number of data points before these.

    Raises:
        TypeError: the model lacks an encoder, a decoder, or a posterior that can be given.
        ValueError: for another `of` or counts that are none; if the optimisation diverges.

    Source:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §4.2.3: (4.3),
        (4.4) and Algorithm 2. Xiao, Yan and Amit, "Likelihood Regret: An Out-of-Distribution
        Detection Score For Variational Auto-encoder", 2020.

    Example:
        >>> import torch
        >>> from gencore.models import VAE, likelihood_regret
        >>> from gencore.nn import MLP
        >>> vae, x = VAE(MLP(3, (8,), 4), MLP(2, (8,), 3), 2), torch.randn(5, 3)
        >>> scores = likelihood_regret(vae, x, "encoder", num_samples=10, num_steps=5)
        >>> scores.regret.shape, scores.reconstruction.shape
        (torch.Size([5]), torch.Size([5, 3]))
    """
    check_choice(_OP, "of", of, get_args(RegretOf))
    check_count(_OP, "num_samples", num_samples, least=1)
    num_steps = _NUM_STEPS.get(of, 100) if num_steps is None else num_steps
    check_count(_OP, "num_steps", num_steps)
    check_count(_OP, "batch_size", batch_size, least=1)
    _check_model(model, of)
    check_state(_OP, x)
    if x.dim() < 2 or not len(x):
        raise ValueError(f"{_OP}: x has shape {list(x.shape)}; expected [N, ...] with N ≥ 1")
    key = random_key(generator, device=x.device) if key is None else key
    descent = _Descent(num_steps, LatentAdam(learning_rate), stream_key(key, "latents"))
    parts = []
    with evaluating(model), torch.no_grad():
        for start in range(0, len(x), batch_size):
            some, place = x[start : start + batch_size], first + start
            if of == "latents":
                adapted, given, reconstruction = _adapt_posterior(model, some, place, descent)
            else:
                adapted, given, reconstruction = _adapt_networks(
                    model, _PARTS[of], some, place, descent
                )
            bound: dict[str, Any] = {"chunk_size": chunk_size, "key": key, "first": place}
            before = model.log_prob_bound(some, num_samples, **bound)
            after = adapted.log_prob_bound(some, num_samples, **bound, **given)
            parts.append((after - before, before, after, reconstruction))
    return LikelihoodRegret(*(torch.cat(part) for part in zip(*parts, strict=True)))


class _Descent(NamedTuple):
    """How (4.3) is maximised."""

    num_steps: int
    optimizer: LatentAdam
    key: Tensor


_Adapted = tuple[DecoderModel, dict[str, Any], Tensor]
"""A model, what else its bound is given, and the reconstruction of the data points."""


def _adapt_posterior(model: DecoderModel, x: Tensor, first: int, descent: _Descent) -> _Adapted:
    """(4.3) in the parameters of each posterior."""
    assert isinstance(model, VAE)
    bound = _objective(model)
    q = optimise_posterior(
        lambda q, key: bound(x, posterior=q, key=key, first=first), model.encode(x),
        num_steps=descent.num_steps, optimizer=descent.optimizer, key=descent.key,
    )  # fmt: skip
    return model, {"posterior": q}, model.decode(q.mean)


def _adapt_networks(
    model: DecoderModel, names: tuple[str, ...], x: Tensor, first: int, descent: _Descent
) -> _Adapted:
    """(4.3) in the parameters of networks that each data point has of its own."""
    networks = {name: NetworkOfRows(getattr(model, name)) for name in names}
    twin = with_parts(model, **networks)
    sizes = [len(network.start) for network in networks.values()]
    keys = iter(split_key(descent.key, descent.num_steps))
    bound = _objective(twin)

    def set_rows(rows: Tensor) -> None:
        for network, part in zip(networks.values(), rows.split(sizes, 1), strict=True):
            network.rows = part

    def loss(rows: Tensor) -> Tensor:
        set_rows(rows)
        return -bound(x, key=next(keys), first=first)

    start = torch.cat([network.start for network in networks.values()])
    rows, _ = optimise_latents(
        loss, start.expand(len(x), -1),
        num_steps=descent.num_steps, optimizer=descent.optimizer,
    )  # fmt: skip
    set_rows(rows)
    return twin, {}, twin.reconstruct(x)


def _objective(model: DecoderModel) -> Callable[..., Tensor]:
    """L of data points by one latent each, with an exact KL divergence where it has one."""
    if isinstance(model, TopDownVAE) or (isinstance(model, VAE) and model.has_closed_kl):
        return model.analytic_elbo
    return model.elbo


def _check_model(model: object, of: RegretOf) -> None:
    """Raise a TypeError that says what a model lacks."""
    kind = type(model).__name__
    if not isinstance(model, DecoderModel):
        raise TypeError(
            f"{_OP}: model is a {kind}; expected one with an encoder, a decoder and a bound of its "
            "likelihood, such as VAE or TopDownVAE"
        )
    for name in _PARTS.get(of, ("encoder", "decoder")):
        if not isinstance(getattr(model, name, None), nn.Module):
            raise TypeError(f"{_OP}: the {kind} has no module {name}, whose regret is asked for")
    if of != "latents":
        return
    if not isinstance(model, VAE):
        raise TypeError(
            f"{_OP}: of is 'latents', but the posterior of a {kind} has no mean and standard "
            "deviation by themselves; expected a VAE, or 'encoder'"
        )
    if model.posterior_flow is not None:
        raise TypeError(
            f"{_OP}: of is 'latents', but the posterior has a flow, and cannot be given by its "
            "mean and standard deviation; expected a VAE without posterior_flow, or 'encoder'"
        )
