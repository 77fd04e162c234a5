"""The disentangling VAE with an adversary of swapped codes (Mathieu et al. 2016)."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.inference.gaussian_posterior import (
    NormalParameters,
    bound_log_std,
    draw_latents,
    log_normal,
    reparametrise,
    standard_normal_kl,
)
from gencore.metrics.distances.nearest import k_nearest
from gencore.models.latent.autoencoder import half_squared_error
from gencore.models.latent.importance_bounds import ImportanceBounds
from gencore.models.starts import normal_starts
from gencore.nn.evaluating import evaluating
from gencore.nn.stop_gradient import stop_gradient
from gencore.objectives import adversarial_generator_loss
from gencore.ops import random_key
from gencore.ops._support.checks import check_count, number

__all__ = ["CodeKind", "DisentangledCodes", "DisentanglingLoss", "DisentanglingVAE"]

CodeKind = Literal["s", "z"]


class DisentangledCodes(NamedTuple):
    """What an encoder tells of data points."""

    s: Tensor
    """Their specified factors, such as identity, [N, S]."""
    posterior: NormalParameters
    """q(z | y) of all other factors, [N, L]."""


class DisentanglingLoss(NamedTuple):
    """Means over a batch, for encoder and decoder."""

    loss: Tensor
    """The weighted sum of the others, a scalar."""
    reconstruction: Tensor
    """½‖y₁ - Dec(z₁, s₁)‖²."""
    swap: Tensor
    """½‖y₁ - Dec(z₁, s₁')‖², with s₁' of another data point of the same label."""
    kl: Tensor
    """KL(q(z | y₁) ‖ N(0, I))."""
    adversarial: Tensor | None
    """-log D(Dec(z₁, s₂), id₂), with a discriminator."""
    sample_adversarial: Tensor | None
    """-log D(Dec(z, s₂), id₂) of z ~ N(0, I), where it has a weight."""


class DisentanglingVAE(ImportanceBounds):
    r"""An autoencoder whose codes tell what a label specifies, s, from all else, z.

    .. math:: \mathrm{Enc}(y) = (f_s(y), q(z \mid y)), \qquad \tilde y = \mathrm{Dec}(z, s)

    s is a function of y, z has a Gaussian posterior and the prior N(0, I). The loss of Algorithm
    5.1 and (5.7) reconstructs a data point y₁ from its own s, and from that of another with the
    same label; so s cannot say more than the label, if z is to. Where s₂ is of another label
    there is nothing to compare with, and a discriminator D(y, id), conditioned on the label,
    judges the result; without it z could carry all, and s be ignored.

    The listing of Algorithm 5.1 leaves the KL divergence of (5.7) out, and encodes y₂ where y₁′ is
    meant; both are as in the text here. The listing shows decoded samples of the prior to D as
    well, which the text calls unstable: their weight is 0 by default.

    Given s, data have a density and the bounds (5.5) of it, without the weights of the loss:

    .. math:: \log p(y \mid s) \ge E_{q(z \mid y)}\left[\log N(y; \mathrm{Dec}(z, s), I)\right] -
              KL(q(z \mid y) \,\|\, p(z))

    ``vae.elbo(y, s=vae.encode(same).s)`` is what other data of the same label tell of y. With the s
    of y itself, as in (5.7), no density of y is bounded, for s has seen y. There is no bound of
    p(y): s has no prior.

    Args:
        encoder: data → s, and the means and the logarithms of the standard deviations of
            q(z | y), [N, S + 2L]; the latter are kept within ±10.
        decoder: s and z in a row, [N, S + L] → data.
        specified_size: S.
        latent_size: L.
        recon_weight, swap_weight, kl_weight, adversarial_weight, sample_weight: of the terms of
            :class:`DisentanglingLoss`, in its order.

    Raises:
        ValueError: for sizes below 1 or negative weights; on a call, for other shapes.

    References:
        Mathieu, "Unsupervised learning under uncertainty", 2017, (5.6), (5.7) and Algorithm 5.1.
        Mathieu, Zhao, Sprechmann, Ramesh and LeCun, "Disentangling factors of variation in deep
        representations using adversarial training", 2016.

    Example:
        >>> import torch
        >>> from gencore.models import DisentanglingVAE
        >>> from gencore.nn import MLP, LookUpDiscriminator
        >>> from gencore.objectives import adversarial_discriminator_loss
        >>> vae = DisentanglingVAE(MLP(6, (8,), 3 + 2 * 2), MLP(3 + 2, (8,), 6), 3, 2)
        >>> discriminator = LookUpDiscriminator((6,), 4, widths=(8,))
        >>> y, same, other = torch.randn(3, 16, 6)
        >>> labels, other_labels = torch.randint(4, (2, 16))
        >>> vae.loss(y, same, other, other_labels, discriminator).loss.backward()
        >>> fake = vae.swapped_samples(y, other)  # s of y, z of the others
        >>> real, fake = discriminator(y, labels), discriminator(fake, labels)
        >>> adversarial_discriminator_loss(real, fake).backward()
        >>> vae.swap(y, other).shape
        torch.Size([16, 6])
        >>> vae.log_prob_bound(y, 50, s=vae.encode(same).s).shape
        torch.Size([16])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        specified_size: int,
        latent_size: int,
        *,
        recon_weight: float = 1.0,
        swap_weight: float = 1.0,
        kl_weight: float = 1.0,
        adversarial_weight: float = 0.1,
        sample_weight: float = 0.0,
    ) -> None:
        super().__init__()
        name = "DisentanglingVAE"
        check_count(name, "specified_size", specified_size, least=1)
        check_count(name, "latent_size", latent_size, least=1)
        self.encoder, self.decoder = encoder, decoder
        self.specified_size, self.latent_size = specified_size, latent_size
        self.recon_weight = number(name, "recon_weight", recon_weight)
        self.swap_weight = number(name, "swap_weight", swap_weight)
        self.kl_weight = number(name, "kl_weight", kl_weight)
        self.adversarial_weight = number(name, "adversarial_weight", adversarial_weight)
        self.sample_weight = number(name, "sample_weight", sample_weight)

    def forward(self, y: Tensor) -> Tensor:
        """Reconstructions of data [N, ...]; the loss is `loss`."""
        return self.reconstruct(y)

    def loss(
        self,
        y: Tensor,
        same: Tensor,
        other: Tensor,
        other_labels: Tensor,
        discriminator: nn.Module | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> DisentanglingLoss:
        """The loss of encoder and decoder; the discriminator gets no gradients.

        Args:
            y: y₁, data [N, ...].
            same: y₁′, others of the same labels.
            other: y₂, of any label.
            other_labels: id₂, int64 [N], or [N, K] of K kinds.
            discriminator: (data, labels) → logits [N]; without one its terms are missing.
            generator: draws the key where none is given.
            key: int64 [seed, offset], of the latents.
            first: number of data points before these.
        """
        if not y.shape == same.shape == other.shape:
            raise ValueError(
                f"DisentanglingVAE.loss: y, same and other have shapes {list(y.shape)}, "
                f"{list(same.shape)} and {list(other.shape)}; expected equal ones"
            )
        rows = len(y)
        key = random_key(generator, device=y.device) if key is None else key
        codes = self.encode(torch.cat([y, same, other]))
        s, s_same, s_other = codes.s.split(rows)
        posterior = NormalParameters(*(part[:rows] for part in codes.posterior))
        z = reparametrise(posterior, 1, key, first)[0].squeeze(1)
        own, swapped = self._decode_like(y, z.repeat(2, 1), torch.cat([s, s_same])).split(rows)
        reconstruction = half_squared_error(y, own).mean()
        swap = half_squared_error(y, swapped).mean()
        kl = standard_normal_kl(posterior).mean()
        loss = self.recon_weight * reconstruction + self.swap_weight * swap + self.kl_weight * kl
        adversarial = sample_adversarial = None
        if discriminator is not None:
            judge = stop_gradient(discriminator)
            logits = judge(self.decode(z, s_other), other_labels)
            adversarial = adversarial_generator_loss(logits, "non-saturating")
            loss = loss + self.adversarial_weight * adversarial
            if self.sample_weight:
                prior = normal_starts(
                    self, rows, (self.latent_size,), key=key, first=first, stream="prior"
                )
                logits = judge(self.decode(prior, s_other), other_labels)
                sample_adversarial = adversarial_generator_loss(logits, "non-saturating")
                loss = loss + self.sample_weight * sample_adversarial
        return DisentanglingLoss(loss, reconstruction, swap, kl, adversarial, sample_adversarial)

    def log_weights(  # type: ignore[override]
        self,
        x: Tensor,
        num: int,
        *,
        s: Tensor,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        first_sample: int = 0,
    ) -> Tensor:
        """log p(y, z | s) − log q(z | y) of `num` latents z of each data point y, [N, num].

        Args:
            x: y, data [N, ...].
            num: latents of each.
            s: what is specified, [N, S], such as that of other data of the same labels.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of data points of the processes before this one.
            first_sample: number of latents of each data point before these.
        """
        check_count("DisentanglingVAE", "num", num, least=1)
        if s.shape != (len(x), self.specified_size):
            raise ValueError(
                f"DisentanglingVAE: s has shape {list(s.shape)}; expected "
                f"{[len(x), self.specified_size]}"
            )
        key = random_key(generator, device=x.device) if key is None else key
        z, log_q = draw_latents(self.encode(x).posterior, num, key, first, first_sample)
        decoded = self._decode_like(x, z.flatten(0, 1), s.repeat_interleave(num, 0))
        error = x.unsqueeze(1) - decoded.unflatten(0, log_q.shape)
        return log_normal(error.flatten(2)) + log_normal(z) - log_q

    @torch.no_grad()
    def swapped_samples(
        self,
        y: Tensor,
        other: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Dec(z₂, s₁) with z₂ drawn from q(z | y₂), which the discriminator has to tell from y₁.

        There are no gradients, and batch statistics stay as they are; arguments as for `loss`.
        """
        key = random_key(generator, device=y.device) if key is None else key
        with evaluating(self):
            s = self.encode(y).s
            z = reparametrise(self.encode(other).posterior, 1, key, first)[0].squeeze(1)
            return self.decode(z, s)

    def encode(self, y: Tensor) -> DisentangledCodes:
        """s and q(z | y) of data [N, ...]."""
        codes: Tensor = self.encoder(y)
        expected = [len(y), self.specified_size + 2 * self.latent_size]
        if list(codes.shape) != expected:
            raise ValueError(
                f"DisentanglingVAE: the encoder gives {list(codes.shape)} for data "
                f"{list(y.shape)}; expected {expected}"
            )
        sizes = [self.specified_size, self.latent_size, self.latent_size]
        s, mean, log_std = codes.to(y.dtype).split(sizes, 1)
        return DisentangledCodes(s, NormalParameters(mean, bound_log_std(log_std)))

    def decode(self, z: Tensor, s: Tensor) -> Tensor:
        """Data of codes z [N, L] and s [N, S]."""
        y: Tensor = self.decoder(torch.cat([s, z], 1))
        return y

    def reconstruct(self, y: Tensor) -> Tensor:
        """Data of their own codes, with the mean of z."""
        codes = self.encode(y)
        return self.decode(codes.posterior.mean, codes.s)

    def swap(self, a: Tensor, b: Tensor) -> Tensor:
        """What `a` specifies with the rest of `b`: Dec(z, s), s of a and the mean of z of b.

        Args:
            a: data [N, ...].
            b: data of the same shape.
        """
        return self.decode(self.encode(b).posterior.mean, self.encode(a).s)

    def swap_grid(self, a: Tensor, b: Tensor) -> Tensor:
        """All swaps [N, M, ...]: entry (i, j) has s of a_i [N, ...] and z of b_j [M, ...]."""
        s, z = self.encode(a).s, self.encode(b).posterior.mean
        rows = self.decode(z.repeat(len(a), 1), s.repeat_interleave(len(b), 0))
        return rows.unflatten(0, (len(a), len(b)))

    def interpolate_grid(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        """Data on planes between two data points' codes, [N, steps, steps, ...].

        s goes in a line from `start` to `end` along the first of the two dimensions, and the mean
        of z along the second. Opposite corners are reconstructions and the two swaps.

        Args:
            start: data [N, ...].
            end: data of the same shape.
            steps: points along each dimension, both ends among them; at least 2.
        """
        check_count("DisentanglingVAE.interpolate_grid", "steps", steps, least=2)
        if start.shape != end.shape:
            raise ValueError(
                f"DisentanglingVAE.interpolate_grid: start and end have shapes "
                f"{list(start.shape)} and {list(end.shape)}; expected equal ones"
            )
        a, b = self.encode(start), self.encode(end)
        t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
        s = torch.lerp(a.s[:, None], b.s[:, None], t).repeat_interleave(steps, 1)
        z = torch.lerp(a.posterior.mean[:, None], b.posterior.mean[:, None], t).repeat(1, steps, 1)
        decoded = self.decode(z.flatten(0, 1), s.flatten(0, 1))
        return decoded.unflatten(0, (len(start), steps, steps))

    def sample(
        self,
        s: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Data Dec(z, s) of z ~ N(0, I), one for each row of s [N, S], in evaluation mode.

        Args:
            s: what is specified.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of samples before these.
        """
        z = normal_starts(
            self, len(s), (self.latent_size,), generator=generator, key=key, first=first,
            stream="latents",
        )  # fmt: skip
        with evaluating(self):
            return self.decode(z, s)

    def retrieve(
        self, query: Tensor, gallery: Tensor, *, by: CodeKind = "s", num: int = 1
    ) -> Tensor:
        """The rows of the gallery whose codes are nearest to those of each query, int64 [N, num].

        Args:
            query: data [N, ...].
            gallery: data [M, ...].
            by: "s", or "z" for its mean.
            num: nearest ones of each query, the nearest first; at most M.
        """
        check_choice("DisentanglingVAE.retrieve", "by", by, get_args(CodeKind))
        check_count("DisentanglingVAE.retrieve", "num", num, least=1)
        if num > len(gallery):
            raise ValueError(
                f"DisentanglingVAE.retrieve: num is {num}; expected at most the {len(gallery)} of "
                "the gallery"
            )
        a, b = (
            codes.s if by == "s" else codes.posterior.mean
            for codes in (self.encode(query), self.encode(gallery))
        )
        return k_nearest(a.detach(), b.detach(), num).indices

    def _decode_like(self, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
        """`decode`, or an error where the result has not the shape of data y."""
        decoded = self.decode(z, s)
        if decoded.shape[1:] != y.shape[1:]:
            raise ValueError(
                f"DisentanglingVAE: the decoder gives {list(decoded.shape)} for data "
                f"{list(y.shape)}; expected {[len(decoded), *y.shape[1:]]}"
            )
        return decoded

    def extra_repr(self) -> str:
        return (
            f"specified_size={self.specified_size}, latent_size={self.latent_size}, "
            f"recon_weight={self.recon_weight}, swap_weight={self.swap_weight}, "
            f"kl_weight={self.kl_weight}, adversarial_weight={self.adversarial_weight}, "
            f"sample_weight={self.sample_weight}"
        )
