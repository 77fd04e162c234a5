"""Energy-based models of images at several grids, sampled from coarse to fine (Gao 2021, §2.2)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.models.ebm.names import MultiGridName
from gencore.models.ebm.strided_conv_energy import ConvLayer, StridedConvEnergy
from gencore.models.starts import like
from gencore.nn.block_pyramid import block_any, block_expand, block_mean
from gencore.nn.held_norms import held_norms
from gencore.objectives.contrastive import contrastive_loss
from gencore.ops import random_key
from gencore.ops._support.checks import bounds, check_count, clip_bound, finite, number
from gencore.ops.random import philox_uniform, stream_key
from gencore.samplers import ConditionalEnergy, Langevin
from gencore.samplers.energy import Energy

__all__ = ["MultiGridEBM", "MultiGridLoss"]


class _Preset(NamedTuple):
    channels: int
    sizes: tuple[int, ...]
    layers: tuple[tuple[ConvLayer, ...], ...]


def _strided(*widths: int) -> tuple[ConvLayer, ...]:
    return tuple(ConvLayer(width, 5, 2) for width in widths)


def _first_strided(first: int, *widths: int) -> tuple[ConvLayer, ...]:
    return ConvLayer(first, 5, 2), *(ConvLayer(width, 3) for width in widths)


# The finest network of "gao2021" is stated in §2.2.3.2, its slope and the two coarser networks are
# those of the authors' program.
_PRESETS: dict[str, _Preset] = {
    "gao2021": _Preset(
        3, (4, 16, 64),
        (
            _first_strided(96, 128, 256), _first_strided(96, 128, 256, 512),
            _strided(64, 128, 256, 512),
        ),
    ),
    "small32": _Preset(
        3, (4, 16, 32), (_first_strided(32, 64), _strided(32, 64), _strided(32, 64, 128))
    ),
    "small16": _Preset(1, (4, 16), (_first_strided(32, 64), _strided(32, 64))),
    "small8": _Preset(
        1, (4, 8), (_first_strided(32, 64), (ConvLayer(32, 3), ConvLayer(64, 3, 2)))
    ),
}  # fmt: skip


class MultiGridLoss(NamedTuple):
    """The loss on one batch and what is worth watching of it; only `loss` carries a graph."""

    loss: Tensor
    """Scalar, the sum of the grids' losses; its gradient trains each grid's energy by itself."""
    energy_data: Tensor
    """[S]: mean energies of the data of each grid, from coarse to fine."""
    energy_samples: Tensor
    """[S]: mean energies of the samples."""
    samples: tuple[Tensor, ...]
    """[N, C, H_s, W_s] of each grid: what the chains ended with."""


class _Condition(NamedTuple):
    """What of a grid is observed."""

    observed: Tensor
    is_free: Tensor
    start: Tensor
    """Where the chains of the pixels start that are not wholly hidden."""
    is_hidden: Tensor
    """Which pixels have nothing visible below them."""


class MultiGridEBM(nn.Module):
    r"""An energy for each of S grids, and short chains that go from the coarsest to the finest.

    An image x^(S) has versions x^(s) of coarser grids, the means of its blocks, down to the colour
    x^(0) of a single pixel. Samples start as that of a training image. From grid to grid they are
    scaled up to constant blocks, from where l Langevin steps of the grid's own energy go on:

    .. math:: \tilde x^{(s)} = M_s^l\, U \tilde x^{(s-1)}, \quad
              M_s: x \mapsto x - a \nabla E_s(x) + b\,\varepsilon, \quad s = 1, \dots, S

    This is Algorithm 1, with the factor a of the gradient and the noise b of a step, δ²/2 and δ in
    its (2.4). As the chains are short, their ends and not the energies' densities learn the data.
    With one grid this is the single-grid method, from 1 × 1 to the full size at once.

    A call is the training objective. It draws samples, evaluates the losses of all grids and
    returns a `MultiGridLoss`, so this module as a whole is what Fabric or DistributedDataParallel
    wraps.

    The 1 × 1 images of the training set, whose histogram generation starts from, are a buffer:
    `set_colors` fills it, and a checkpoint keeps it. They are drawn as whole colours, for
    histograms of single channels would mix them.

    Args:
        energies: for each grid, from coarse to fine, a network [N, C, H_s, W_s] → [N].
        sizes: (H_s, W_s) of each grid, or one number for squares; each divides the next.
        channels: C.
        num_steps: l, steps of a chain at one grid.
        step_size: a, the factor of the gradient in a step.
        noise_scale: b, the standard deviation of a step's noise; √(2a) where it is missing, 0 for
            gradient descent.
        grad_clamp: bound on the absolute value of each element of the sampler's gradient.
        clamp: lowest and highest value of the samples.
        energy_penalty: weight α of the mean of E(x⁺)² + E(x⁻)² at each grid.
        num_colors: number of 1 × 1 images that are kept.

    Raises:
        ValueError: numbers of energies and sizes differ, or a size does not divide the next; for a
            `clamp` or a `grad_clamp` that is none.
        RuntimeError: by `sample` and `inpaint`, before `set_colors`.

    Example:
        >>> import torch
        >>> from gencore.models import MultiGridEBM
        >>> ebm = MultiGridEBM.preset("small16", num_steps=3, noise_scale=0.01)
        >>> x = torch.rand(8, 1, 16, 16)
        >>> ebm.set_colors(x)
        >>> ebm(x).loss.backward()
        >>> ebm.sample(5).shape
        torch.Size([5, 1, 16, 16])
        >>> [tuple(images.shape) for images in ebm.sample_from_coarse(torch.zeros(2, 1, 1, 1), 3)]
        [(6, 1, 4, 4), (6, 1, 16, 16)]

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §2.2, whose numbers are used; Gao, Lu, Zhou, Zhu and Wu,
        "Learning generative ConvNets via multi-grid modeling and sampling", 2018.
    """

    colors: Tensor

    def __init__(
        self,
        energies: Sequence[nn.Module],
        sizes: Sequence[int | tuple[int, int]],
        channels: int,
        *,
        num_steps: int = 30,
        step_size: float = 0.05,
        noise_scale: float | None = None,
        grad_clamp: float | None = None,
        clamp: tuple[float, float] | None = None,
        energy_penalty: float = 0.0,
        num_colors: int = 1024,
    ) -> None:
        super().__init__()
        pairs = [size if isinstance(size, tuple) else (size, size) for size in sizes]
        if not pairs or len(energies) != len(pairs):
            raise ValueError(
                f"MultiGridEBM: {len(energies)} energies for sizes {tuple(sizes)}; expected one "
                "for each grid, and a grid or more"
            )
        factors = []
        for coarse, fine in pairwise([(1, 1), *pairs]):
            if any(c < 1 or f % c for c, f in zip(coarse, fine, strict=True)):
                raise ValueError(
                    f"MultiGridEBM: sizes are {tuple(sizes)}; expected each to divide the next"
                )
            factors.append((fine[0] // coarse[0], fine[1] // coarse[1]))
        for name, count in (("num_steps", num_steps), ("num_colors", num_colors)):
            check_count("MultiGridEBM", name, count, least=1)
        number("MultiGridEBM", "step_size", step_size)
        if noise_scale is not None:
            number("MultiGridEBM", "noise_scale", noise_scale)
        finite("MultiGridEBM", "energy_penalty", energy_penalty)
        self.energies = nn.ModuleList(energies)
        self.sizes = tuple(pairs)
        self.factors = tuple(factors)
        self.shape = (channels, *pairs[-1])
        self.num_steps = num_steps
        self.step_size = step_size
        self.noise_scale = noise_scale
        clip_bound("MultiGridEBM", "grad_clamp", grad_clamp)
        bounds("MultiGridEBM", clamp)
        self.grad_clamp = grad_clamp
        self.clamp = clamp
        self.energy_penalty = energy_penalty
        # NaN until they are set, so that samples without them are not grey by mistake.
        self.register_buffer("colors", torch.full((num_colors, channels, 1, 1), torch.nan))

    @classmethod
    def preset(
        cls,
        name: MultiGridName,
        *,
        channels: int | None = None,
        single_grid: bool = False,
        **settings: Any,
    ) -> "MultiGridEBM":
        """The grids and networks of the source, or smaller ones.

        Args:
            name: "gao2021" (grids of 4, 16 and 64 pixels), "small32" (4, 16, 32), "small16" (4, 16)
                or "small8" (4, 8).
            channels: of the images, where they are not the preset's 3, 3, 1 and 1.
            single_grid: the finest grid alone.
            settings: further arguments of the class.

        Example:
            >>> ebm = MultiGridEBM.preset("gao2021")
            >>> ebm.features(torch.zeros(1, 3, 64, 64)).shape
            torch.Size([1, 15360])
        """
        check_choice("MultiGridEBM.preset", "name", name, get_args(MultiGridName))
        preset = _PRESETS[name]
        channels = preset.channels if channels is None else channels
        grids = list(zip(preset.sizes, preset.layers, strict=True))[-1 if single_grid else 0 :]
        energies = [StridedConvEnergy((channels, size, size), layers) for size, layers in grids]
        return cls(energies, [size for size, _ in grids], channels, **settings)

    def dynamics(self, energy: Energy, *, noise: bool = True) -> Langevin:
        """The sampler's step (2.4) on the energy of a grid, or gradient descent without noise."""
        return Langevin(
            energy,
            self.step_size,
            self.noise_scale if noise else 0.0,
            grad_clamp=self.grad_clamp,
            clamp=self.clamp,
        )

    def pyramid(self, x: Tensor) -> tuple[Tensor, ...]:
        """The versions x^(0), …, x^(S) of images [N, C, H, W], from 1 × 1 to the images."""
        self._check_images("MultiGridEBM.pyramid", x)
        grids = [x]
        for factor in reversed(self.factors):
            grids.append(block_mean(grids[-1], factor))
        return tuple(reversed(grids))

    def set_colors(self, x: Tensor) -> None:
        """Keep the 1 × 1 versions of images [N, C, H, W]: of evenly spaced ones where there are
        more than `num_colors`, each several times where there are fewer."""
        self._check_images("MultiGridEBM.set_colors", x)
        if len(x) == 0:
            raise ValueError("MultiGridEBM.set_colors: got no images; expected one or more")
        if not bool(x.isfinite().all()):
            raise ValueError("MultiGridEBM.set_colors: images have elements that are not finite")
        rows = torch.arange(len(self.colors), device=x.device) * len(x) // len(self.colors)
        self.colors.copy_(self.pyramid(x[rows])[0])

    def forward(
        self,
        x: Tensor,
        *,
        starts: Sequence[Tensor] | None = None,
        is_free: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> MultiGridLoss:
        """The sum over the grids of the losses whose gradients are those of (2.3), f = −E:

            Σ_s E_s(x^(s)) − E_s(sg(x̃^(s))) + α·(E_s(x^(s))² + E_s(sg(x̃^(s)))²).

        Args:
            x: data, [N, C, H, W].
            starts: where the chains of each grid start, from coarse to fine, in place of the
                samples of the coarser grid: the data themselves (`pyramid(x)[1:]`) for contrastive
                divergence, the chains of a `ReplayBuffer` for persistent ones.
            is_free: bool [N, 1, H, W] or of a shape that broadcasts to the images': learn to fill
                in these pixels given the others, as `inpaint` does.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset] of the chains' noise.
            first: number of rows that the processes before this one have.

        Raises:
            ValueError: for images of another shape, or another number of starts than grids.
        """
        colors, *data = self.pyramid(x)
        if starts is not None and len(starts) != len(data):
            raise ValueError(
                f"MultiGridEBM: {len(starts)} starts for {len(data)} grids; expected one for each"
            )
        if key is None:
            key = random_key(generator, device=x.device)
        conditions = None
        if is_free is not None:
            colors, conditions = self._conditions("MultiGridEBM", x, is_free, colors)
        with held_norms(self.energies, advance=True):  # one energy in the chains and in both terms
            samples = self._chains(
                colors, self.num_steps, starts=starts, conditions=conditions, key=key, first=first
            )
            terms = [
                contrastive_loss(energy, grid, sample, energy_penalty=self.energy_penalty)
                for energy, grid, sample in zip(self.energies, data, samples, strict=True)
            ]
        return MultiGridLoss(
            torch.stack([term.loss for term in terms]).sum(),
            torch.stack([term.energy_data for term in terms]),
            torch.stack([term.energy_samples for term in terms]),
            samples,
        )

    def coarse(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """`num` 1 × 1 images [num, C, 1, 1], drawn from those of the training set with replacement.

        Args:
            num: number of images.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of images before these.
        """
        if key is None:
            key = random_key(generator, device=self.colors.device)
        colors = self._coarse(num, key, first)
        self._check_colors(colors)
        return colors

    def _coarse(self, num: int, key: Tensor, first: int) -> Tensor:
        uniform = philox_uniform((num,), stream_key(key, "start"), first_element=first)
        return self.colors[(uniform * len(self.colors)).long()]

    def _check_colors(self, colors: Tensor) -> None:
        # Values on a GPU are not looked at: that would stop the host.
        if colors.device.type == "cpu" and bool(colors.isnan().any()):
            raise RuntimeError(
                "MultiGridEBM: there are no 1 x 1 images to start from; call set_colors with the "
                "training images, or load a checkpoint"
            )

    def sample_from_coarse(
        self,
        x0: Tensor,
        num: int = 1,
        *,
        num_steps: int | None = None,
        noise: bool = True,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> tuple[Tensor, ...]:
        """Samples of all grids, from given 1 × 1 images.

        Args:
            x0: [M, C, 1, 1].
            num: number of samples from each, one after another.
            num_steps: steps at each grid, where it is not that of training.
            noise: whether the steps have noise; without it samples of one start are one.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the steps' noise.
            first: number of samples before these.

        Returns:
            [M·num, C, H_s, W_s] for s = 1, …, S.
        """
        if x0.dim() != 4 or x0.shape[1:] != (self.shape[0], 1, 1):
            raise ValueError(
                f"MultiGridEBM.sample_from_coarse: x0 has shape {list(x0.shape)}; expected "
                f"[M, {self.shape[0]}, 1, 1]"
            )
        key = self._sample_key(key, generator)
        x0 = x0.repeat_interleave(num, 0)
        steps = self.num_steps if num_steps is None else num_steps
        with held_norms(self.energies):
            return self._chains(x0, steps, noise=noise, key=key, first=first)

    def sample(
        self,
        num: int,
        *,
        num_steps: int | None = None,
        noise: bool = True,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """`num` samples [num, C, H, W] of the finest grid, from 1 × 1 images of the training set.

        Args:
            num: number of samples.
            num_steps: steps at each grid, where it is not that of training.
            noise: whether the steps have noise. The source leaves it out of the final synthesis of
                CIFAR-10, where it makes images slightly better.
            generator: draws the key where none is given.
            key: int64 [seed, offset]; it fixes the starts and the noise of the steps.
            first: number of samples before these. With one key, `sample(a)` and
                `sample(b, first=a)` are the two parts of `sample(a + b)`.
        """
        if key is None:
            key = random_key(generator, device=like(self).device)
        x0 = self.coarse(num, key=key, first=first)
        return self.sample_from_coarse(x0, num_steps=num_steps, noise=noise, key=key, first=first)[
            -1
        ]

    def inpaint(
        self,
        x: Tensor,
        is_free: Tensor,
        *,
        num_steps: int | None = None,
        noise: bool = True,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Fill in the free pixels of images; those that are visible keep their bits.

        Algorithm 1 with steps that move free pixels alone (§2.2.3.3). A pixel of a coarser grid is
        free where any pixel below it is; the others are the means of their blocks. What is visible
        of a free coarse pixel is where it starts from: the mean of what can be seen of its block,
        and of the whole image at 1 × 1. Pixels with nothing visible below them start from the
        sample of the coarser grid.

        Args:
            x: images [N, C, H, W]; their free pixels are not looked at.
            is_free: bool, of a shape that broadcasts to theirs, such as [N, 1, H, W].
            num_steps, noise, generator, key, first: as for `sample`.

        Returns:
            [N, C, H, W].

        Raises:
            TypeError: if `is_free` is not bool.
            ValueError: for images or masks of another shape, or visible pixels that are not finite.

        Example:
            >>> import torch
            >>> ebm = MultiGridEBM.preset("small16", num_steps=2)
            >>> x, is_free = torch.rand(3, 1, 16, 16), torch.rand(3, 1, 16, 16) < 0.5
            >>> filled = ebm.inpaint(x, is_free)
            >>> torch.equal(filled[~is_free], x[~is_free]), bool((filled != x)[is_free].all())
            (True, True)
        """
        self._check_images("MultiGridEBM.inpaint", x)
        key = random_key(generator, device=like(self).device) if key is None else key
        colors = self._coarse(len(x), key, first)
        colors, conditions = self._conditions("MultiGridEBM.inpaint", x, is_free, colors)
        self._check_colors(colors)
        key = self._sample_key(key, generator)
        steps = self.num_steps if num_steps is None else num_steps
        with held_norms(self.energies):
            return self._chains(
                colors, steps, noise=noise, conditions=conditions, key=key, first=first
            )[-1]

    def features(self, x: Tensor, *, layers: Sequence[int] | None = None) -> Tensor:
        """What the finest grid's convolutions see, max-pooled to 4 × 4 (§2.2.3.2), [N, D].

        Args:
            x: images [N, C, H, W].
            layers: numbers of the convolutions, from 0; all of them where it is missing.

        Raises:
            TypeError: if the finest energy is no `StridedConvEnergy`.
        """
        energy = self.energies[-1]
        if not isinstance(energy, StridedConvEnergy):
            raise TypeError(
                f"MultiGridEBM.features: the finest energy is a {type(energy).__name__}; expected "
                "a StridedConvEnergy"
            )
        return energy.features(x, layers=layers)

    def _chains(
        self,
        x: Tensor,
        num_steps: int,
        *,
        noise: bool = True,
        starts: Sequence[Tensor] | None = None,
        conditions: Sequence[_Condition] | None = None,
        key: Tensor,
        first: int,
    ) -> tuple[Tensor, ...]:
        """Samples of all grids, from 1 × 1 images or from given starts."""
        samples = []
        for grid, energy in enumerate(self.energies):
            x = block_expand(x, self.factors[grid]) if starts is None else starts[grid]
            # The steps of a chain use the keys from this one on.
            grid_key = key + torch.tensor([0, grid * num_steps], device=key.device)
            if conditions is None:
                x = self.dynamics(energy, noise=noise).sample(
                    x, num_steps, key=grid_key, first=first
                )
            else:
                condition = conditions[grid]
                if starts is None:
                    x = torch.where(condition.is_hidden, x, condition.start)
                conditional = ConditionalEnergy(energy, condition.observed, condition.is_free)
                dynamics = self.dynamics(conditional, noise=noise)
                x = conditional.complete(dynamics.sample(x, num_steps, key=grid_key, first=first))
            samples.append(x)
        return tuple(samples)

    def _conditions(
        self, name: str, x: Tensor, is_free: Tensor, colors: Tensor
    ) -> tuple[Tensor, list[_Condition]]:
        """The 1 × 1 images of what is visible, `colors` where nothing is, and of each grid what is
        observed."""
        if is_free.dtype != torch.bool:
            raise TypeError(f"{name}: is_free is {is_free.dtype}; expected bool")
        try:
            is_free = is_free.expand(x.shape)
        except RuntimeError:
            raise ValueError(
                f"{name}: is_free has shape {list(is_free.shape)}; expected one that broadcasts to "
                f"that of the images, {list(x.shape)}"
            ) from None
        # The finest grid; then coarser ones with the means and fractions of what is visible.
        visible, fraction = x.masked_fill(is_free, 0.0), (~is_free).to(x.dtype)
        conditions = [_Condition(visible, is_free, visible, is_free)]
        for factor in reversed(self.factors[1:]):
            visible, fraction = block_mean(visible, factor), block_mean(fraction, factor)
            is_free = block_any(is_free, factor)
            mean = visible / fraction.clamp(min=torch.finfo(x.dtype).tiny)
            conditions.append(_Condition(visible, is_free, mean, fraction == 0))
        visible = block_mean(visible, self.factors[0])
        fraction = block_mean(fraction, self.factors[0])
        mean = visible / fraction.clamp(min=torch.finfo(x.dtype).tiny)
        return torch.where(fraction == 0, colors, mean), conditions[::-1]

    def _sample_key(self, key: Tensor | None, generator: Generator | None) -> Tensor:
        if key is None:
            key = random_key(generator, device=like(self).device)
        return stream_key(key, "samples")

    def _check_images(self, name: str, x: Tensor) -> None:
        if x.dim() != 4 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"{name}: got images of shape {list(x.shape)}; expected "
                f"[N, {', '.join(map(str, self.shape))}]"
            )

    def extra_repr(self) -> str:
        sizes = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        return (
            f"sizes=({sizes}), num_steps={self.num_steps}, step_size={self.step_size}, "
            f"noise_scale={self.noise_scale}"
        )
