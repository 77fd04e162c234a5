"""Vectors that become the nearest of a learned book of codes."""

from typing import Literal, NamedTuple, get_args

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from torch.nn import functional

from gencore.choices import check_choice
from gencore.nn.processes import num_processes, sum_over_processes
from gencore.nn.quantization.nearest import nearest
from gencore.ops import philox_words, random_key
from gencore.sizes import check_positive

__all__ = ["CodeBookUpdate", "Quantized", "VectorQuantizer"]

CodeBookUpdate = Literal["ema", "loss"]

# Keeps the mean of a code without vectors finite.
_SMOOTHING = 1e-5


class Quantized(NamedTuple):
    """Vectors that have become codes."""

    values: Tensor
    """The codes' vectors [N, D, ...], whose gradient goes straight to the vectors x."""
    codes: Tensor
    """int64 [N, ...]."""
    loss: Tensor
    """[N], summed over an element's vectors: what trains the encoder, and the book unless averages
    do."""
    perplexity: Tensor
    """exp H of how often each code was taken: 1 if all vectors took one, K if all are equally
    frequent."""


class VectorQuantizer(nn.Module):
    r"""The nearest of K learned vectors, in the place of each vector.

    .. math:: z_q = e_k, \quad k = \arg\min_j \lVert x - e_j \rVert

    .. math:: L = \sum \lVert \mathrm{sg}[x] - e_k \rVert^2
              + \beta \sum \lVert x - \mathrm{sg}[e_k] \rVert^2

    The derivative of z_q with respect to x is taken to be the identity. The codes follow the first
    term of the loss; or, without that term, running averages of the vectors that they stand for,

    .. math:: N_k \leftarrow \gamma N_k + (1 - \gamma) n_k, \quad
              m_k \leftarrow \gamma m_k + (1 - \gamma) \sum_{x \to k} x, \quad
              e_k = m_k \Big/ \frac{N_k + \epsilon}{N + K \epsilon} N, \quad N = \sum_k N_k

    with ε = 10⁻⁵: k-means, a step at a time. In training mode a forward pass moves the averages and
    revives dead codes. Where torch.distributed runs, all processes see the vectors of all.

    Args:
        num_codes: K.
        code_dim: D.
        update: what the codes follow: ``"ema"``, the averages, or ``"loss"``.
        decay: γ of the averages.
        commitment: β.
        revive_after: a code that this many batches have not used becomes a vector of the batch,
            drawn at random; without it dead codes stay.

    Attributes:
        code_book: e [K, D]; a buffer or, with ``update="loss"``, a parameter.

    Raises:
        ValueError: for sizes that are not positive, or numbers out of their range.

    References:
        van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning", 2017,
        eq. (3) and appendix A.1. Lucas, "Deep generative models: over-generalisation and
        mode-dropping", 2020, (2.69) and (2.71), whose first term has the wrong sign.

    Example:
        >>> import torch
        >>> from gencore.nn import VectorQuantizer
        >>> quantizer = VectorQuantizer(16, 3).eval()
        >>> z = quantizer(torch.randn(2, 3, 4, 4))
        >>> z.values.shape, z.codes.shape, torch.equal(quantizer.decode(z.codes), z.values)
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 4, 4]), True)
    """

    code_book: Tensor
    counts: Tensor
    sums: Tensor
    unused: Tensor

    def __init__(
        self,
        num_codes: int,
        code_dim: int,
        *,
        update: CodeBookUpdate = "ema",
        decay: float = 0.99,
        commitment: float = 0.25,
        revive_after: int | None = 100,
    ) -> None:
        super().__init__()
        name = "VectorQuantizer"
        check_positive(name, num_codes=num_codes, code_dim=code_dim)
        check_choice(name, "update", update, get_args(CodeBookUpdate))
        if not 0 <= decay < 1:
            raise ValueError(f"{name}: decay is {decay}; expected at least 0 and below 1")
        if not 0 <= commitment < float("inf"):
            raise ValueError(f"{name}: commitment is {commitment}; expected at least 0")
        if revive_after is not None:
            check_positive(name, revive_after=revive_after)
        self.num_codes, self.code_dim = num_codes, code_dim
        self.update, self.decay = update, decay
        self.commitment, self.revive_after = commitment, revive_after
        code_book = torch.empty(num_codes, code_dim).uniform_(-1 / num_codes, 1 / num_codes)
        if update == "loss":
            self.code_book = nn.Parameter(code_book)
        else:
            self.register_buffer("code_book", code_book)
            # As if each code had stood for one vector in every batch so far.
            self.register_buffer("counts", torch.ones(num_codes))
            self.register_buffer("sums", code_book.clone())
        self.register_buffer("unused", torch.zeros(num_codes, dtype=torch.int64))

    def forward(
        self, x: Tensor, *, key: Tensor | None = None, generator: Generator | None = None
    ) -> Quantized:
        """The codes of vectors x, and the loss of taking them.

        Args:
            x: [N, D, ...], a vector at each place.
            key: int64 [seed, offset] of the vectors that dead codes become, alike on all processes.
            generator: draws the key where none is given.

        Raises:
            TypeError: for vectors that are not of floating point.
            ValueError: for vectors of another length.
        """
        vectors = self._vectors(x)
        codes = nearest(vectors.detach(), self.code_book.detach())
        chosen = functional.embedding(codes, self.code_book)
        loss = self.commitment * (vectors - chosen.detach()).square().sum(1)
        if self.update == "loss":
            loss = loss + (vectors.detach() - chosen).square().sum(1)
        # The difference is 0, so that the values are the codes' to the last bit.
        values = chosen.detach() + (vectors - vectors.detach())
        counts = torch.bincount(codes, minlength=self.num_codes).to(vectors.dtype)
        if self.training:
            if key is None and self.revive_after is not None:
                key = random_key(generator, device=x.device)
            counts = self._learn(vectors.detach(), codes, counts, key)
        frequencies = counts / counts.sum().clamp(min=1)
        return Quantized(
            self._at_places(values, x),
            codes.view(len(x), *x.shape[2:]),
            loss.view(len(x), x.shape[2:].numel()).sum(1),
            torch.special.entr(frequencies).sum().exp(),
        )

    def encode(self, x: Tensor) -> Tensor:
        """The codes, int64 [N, ...], of vectors [N, D, ...]."""
        codes = nearest(self._vectors(x).detach(), self.code_book.detach())
        return codes.view(len(x), *x.shape[2:])

    def decode(self, codes: Tensor) -> Tensor:
        """The vectors [N, D, ...] of codes, int64 [N, ...].

        Raises:
            TypeError: for codes that are not int64.
            ValueError: for codes that there are none of.
        """
        if codes.dtype != torch.int64:
            raise TypeError(f"VectorQuantizer.decode: codes is {codes.dtype}; expected int64")
        if codes.numel() and (codes.min() < 0 or codes.max() >= self.num_codes):
            raise ValueError(
                f"VectorQuantizer.decode: codes are from {codes.min()} to {codes.max()}; expected "
                f"0 to {self.num_codes - 1}"
            )
        return functional.embedding(codes, self.code_book).movedim(-1, 1)

    @torch.no_grad()
    def initialize(
        self, x: Tensor, *, num_iterations: int = 10, generator: Generator | None = None
    ) -> None:
        """Start the codes from vectors that all processes share: K of them, then k-means.

        Args:
            x: [N, D, ...], of at least K vectors.
            num_iterations: of k-means. A code that no vector is near to stays where it is.
            generator: draws the vectors, on the device of x.

        Raises:
            ValueError: for fewer vectors.
        """
        vectors = self._vectors(x)
        if len(vectors) < self.num_codes:
            raise ValueError(
                f"VectorQuantizer.initialize: x has {len(vectors)} vectors; expected at least "
                f"{self.num_codes}, one for each code"
            )
        order = torch.randperm(len(vectors), generator=generator, device=vectors.device)
        points = vectors[order[: self.num_codes]]
        for _ in range(num_iterations):
            codes = nearest(vectors, points)
            counts = torch.bincount(codes, minlength=self.num_codes).unsqueeze(1)
            sums = torch.zeros_like(points).index_add_(0, codes, vectors)
            points = torch.where(counts > 0, sums / counts, points)
        self._restart(torch.ones_like(self.unused, dtype=torch.bool), points)

    @torch.no_grad()
    def _learn(self, vectors: Tensor, codes: Tensor, counts: Tensor, key: Tensor | None) -> Tensor:
        """Move the averages and revive dead codes; how often all processes took each code."""
        parts = [counts.unsqueeze(1)]
        if self.update == "ema":
            parts.append(torch.zeros_like(self.code_book).index_add_(0, codes, vectors))
        if key is not None:
            parts.append(self._candidates(vectors, key))
        sizes = [part.shape[1] for part in parts]
        counts, *parts = sum_over_processes(torch.cat(parts, 1)).split(sizes, 1)
        counts = counts.squeeze(1)
        if self.update == "ema":
            self.counts.lerp_(counts, 1 - self.decay)
            self.sums.lerp_(parts[0], 1 - self.decay)
            total = self.counts.sum()
            weight = (self.counts + _SMOOTHING) / (total + self.num_codes * _SMOOTHING) * total
            self.code_book.copy_(self.sums / weight.unsqueeze(1))
        self.unused.add_(1).masked_fill_(counts > 0, 0)
        if self.revive_after is not None:
            self._restart(self.unused >= self.revive_after, parts[-1])
        return counts

    def _candidates(self, vectors: Tensor, key: Tensor) -> Tensor:
        """A vector of all processes' for each code; zeros where it is another process's."""
        first, total = _places(len(vectors), vectors.device)
        words = philox_words((self.num_codes,), key.to(vectors.device))
        index = ((words * total) >> 32) - first
        own = (index >= 0) & (index < len(vectors))
        if not len(vectors):
            return torch.zeros_like(self.code_book)
        return torch.where(own.unsqueeze(1), vectors[index.clamp(0, len(vectors) - 1)], 0)

    def _restart(self, chosen: Tensor, points: Tensor) -> None:
        """Put the codes of a mask [K] at points [K, D], with nothing behind them."""
        self.code_book.copy_(torch.where(chosen.unsqueeze(1), points, self.code_book))
        if self.update == "ema":
            self.sums.copy_(torch.where(chosen.unsqueeze(1), points, self.sums))
            self.counts.masked_fill_(chosen, 1)
        self.unused.masked_fill_(chosen, 0)

    def _vectors(self, x: Tensor) -> Tensor:
        """The vectors one below the other, in the dtype of the codes."""
        if not x.is_floating_point():
            raise TypeError(f"VectorQuantizer: x is {x.dtype}; expected floating point")
        if x.dim() < 2 or x.shape[1] != self.code_dim:
            raise ValueError(
                f"VectorQuantizer: x has shape {list(x.shape)}; expected [N, {self.code_dim}, ...]"
            )
        return x.movedim(1, -1).reshape(-1, self.code_dim).to(self.code_book.dtype)

    def _at_places(self, vectors: Tensor, x: Tensor) -> Tensor:
        return vectors.view(len(x), *x.shape[2:], self.code_dim).movedim(-1, 1)

    def extra_repr(self) -> str:
        return (
            f"{self.num_codes}, {self.code_dim}, update={self.update!r}, decay={self.decay}, "
            f"commitment={self.commitment}, revive_after={self.revive_after}"
        )


def _places(size: int, device: torch.device) -> tuple[Tensor | int, Tensor | int]:
    """Vectors of the processes before this one, and of all."""
    if num_processes() == 1:
        return 0, size
    rank = dist.get_rank()
    sizes = torch.zeros(num_processes(), dtype=torch.int64, device=device)
    sizes[rank] = size
    sizes = sum_over_processes(sizes)
    return sizes[:rank].sum(), sizes.sum()
