"""A generator whose samples a discriminator corrects by Metropolis decisions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from gencore.ops import philox_words, random_key, split_key
from gencore.ops._support.checks import accumulation_dtype
from gencore.ops.metropolis import FIRST_DECISION
from gencore.samplers.chain_sampler import ChainSampler
from gencore.samplers.chains import check_positions, first_chain
from gencore.samplers.energy import check_energies

__all__ = ["IndependenceInfo", "MetropolisHastingsGAN", "MetropolisHastingsGANState"]


class Proposal(Protocol):
    """Draws `num` samples of the generator, after `first` samples of other processes."""

    def __call__(self, num: int, *, key: Tensor, first: int) -> Tensor: ...


class MetropolisHastingsGANState(NamedTuple):
    """Where the chains are."""

    position: Tensor
    """[N, ...]: one chain a row."""
    logit: Tensor
    """[N]: log D/(1 - D) there, never below float32."""


class IndependenceInfo(NamedTuple):
    """What one transition did."""

    is_accepted: Tensor
    """[N], bool: whether the chain moved to its proposal."""
    acceptance_rate: Tensor
    """[N]: the probability with which it would."""


@dataclass(frozen=True)
class MetropolisHastingsGAN(ChainSampler[MetropolisHastingsGANState, IndependenceInfo]):
    """Chains that a generator proposes to and a calibrated discriminator decides for.

    A transition draws x' from the generator, whatever x is, and accepts it with probability

        min(1, (1/D(x) − 1) / (1/D(x') − 1))

    With the ideal discriminator D = p/(p + q) of data from p and samples from q, the chains
    approach p wherever q > 0. D has to be calibrated: among points with D(x) = 0.8, 80 % have to be
    data. `gencore.models.PlattScaling` calibrates, and `gencore.metrics.calibration_statistic`
    checks it. Start the chains from data that was held out of the training, which is distributed as
    p already; chains from elsewhere take some transitions to get there.

    Args:
        proposal: the generator, `proposal(num, key=..., first=...) -> [num, ...]`, such as the
            `sample` of a model of `gencore.models`.
        discriminator: maps [N, ...] to the logits log D/(1 − D), [N], each row by itself.

    Raises:
        TypeError, ValueError: on use, for logits that are not one real number a row, proposals that
            are not like the positions, or starts whose logit is NaN.

    Example:
        >>> from gencore.ops import philox_normal
        >>> def proposal(num, *, key, first):  # N(0, 2²), for data of N(1, 1)
        ...     return 2 * philox_normal((num, 1), key, first_element=first)
        >>> def logit(x):  # log p(x) − log q(x), up to a constant
        ...     return (-0.5 * (x - 1) ** 2 + x**2 / 8).sum(1)
        >>> sampler = MetropolisHastingsGAN(proposal, logit)
        >>> x = sampler.sample(torch.ones(4000, 1), 30, key=torch.tensor([0, 0]))
        >>> round(x.mean().item(), 1), round(x.std().item(), 1)
        (1.0, 1.0)

    References:
        Turner, Hung, Frank, Saatchi and Yosinski, "Metropolis-Hastings generative adversarial
        networks", ICML 2019, eq. (4).
    """

    proposal: Proposal
    discriminator: Callable[[Tensor], Tensor]

    @property
    def energy(self) -> Callable[[Tensor], Tensor]:  # type: ignore[override]
        """The discriminator, whose spectral norms a chain holds."""
        return self.discriminator

    @torch.no_grad()
    def generate(
        self,
        data: Tensor,
        num_proposals: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The generator's samples where chains from held-out data end.

        A chain that refuses all proposals would return its datum. It starts once more, from a
        sample.

        Args:
            data: starts [N, ...].
            num_proposals: K of each chain, and K again from the sample.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of chains before this part of the batch.

        Raises:
            ValueError: as of `sample`.

        Example:
            >>> from gencore.ops import philox_normal
            >>> def proposal(num, *, key, first):
            ...     return philox_normal((num, 2), key, first_element=2 * first)
            >>> sampler = MetropolisHastingsGAN(proposal, lambda x: x.sum(1))
            >>> sampler.generate(torch.full((3, 2), 9.0), 10).max() < 9  # no proposal is as good
            tensor(True)
        """
        if key is None:
            key = random_key(generator, device=data.device)
        from_data, of_start, from_start = split_key(key, 3)
        x, info = self.sample(data, num_proposals, key=from_data, first=first, return_info=True)
        has_moved = info.is_accepted.any(0)
        if has_moved.all():
            return x
        start = self.proposal(len(data), key=of_start, first=first)
        again = self.sample(start, num_proposals, key=from_start, first=first)
        return torch.where(has_moved.reshape(-1, *(1,) * (x.dim() - 1)), x, again)

    def init(self, x: Tensor) -> MetropolisHastingsGANState:
        """The state of chains that start at `x` [N, ...], best data; left unchanged.

        Raises:
            ValueError: if a logit is NaN.
        """
        check_positions("MetropolisHastingsGAN.init", x)
        with torch.no_grad():
            logit = self._logit(x.detach())
        if num := int(logit.isnan().sum()):
            raise ValueError(
                f"MetropolisHastingsGAN.init: {num} of {len(x)} chains start where the logit is NaN"
            )
        return MetropolisHastingsGANState(x.detach().clone(), logit)

    def _transition(
        self, state: MetropolisHastingsGANState, key: Tensor, first_element: int, *, in_place: bool
    ) -> tuple[MetropolisHastingsGANState, IndependenceInfo]:
        x, logit = state
        chain = first_chain("MetropolisHastingsGAN.step", x, first_element)
        proposal = self.proposal(len(x), key=key, first=chain)
        if not isinstance(proposal, Tensor) or (proposal.shape, proposal.dtype) != (
            x.shape, x.dtype,
        ):  # fmt: skip
            raise ValueError(
                "MetropolisHastingsGAN: the proposal is "
                f"{getattr(proposal, 'dtype', type(proposal).__name__)} of shape "
                f"{list(getattr(proposal, 'shape', []))}; expected {x.dtype} of {list(x.shape)}"
            )
        proposed = self._logit(proposal)
        # A proposal whose logit is NaN is refused.
        rate = (proposed - logit).exp().clamp(max=1.0).nan_to_num(0.0)
        words = philox_words((len(x),), key, first_element=FIRST_DECISION + chain)
        is_accepted = (words.double() + 0.5) / 2**32 < rate
        moved = MetropolisHastingsGANState(
            torch.where(is_accepted.reshape(-1, *(1,) * (x.dim() - 1)), proposal, x),
            torch.where(is_accepted, proposed, logit),
        )
        return moved, IndependenceInfo(is_accepted, rate)

    def _no_info(self, state: MetropolisHastingsGANState) -> IndependenceInfo:
        none = state.logit.new_empty((0, len(state.logit)))
        return IndependenceInfo(none.bool(), none)

    def _logit(self, x: Tensor) -> Tensor:
        logit = self.discriminator(x)
        check_energies("MetropolisHastingsGAN", "discriminator(x)", logit, x)
        return logit.to(accumulation_dtype(x)).clone()
