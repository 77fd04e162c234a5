"""The reconstruction error of an auto-encoder as an energy (Mathieu 2017, §2.1.2.1)."""

from torch import Tensor, nn

__all__ = ["AutoencoderEnergy"]


class AutoencoderEnergy(nn.Module):
    r"""An auto-encoder, whose energy is low where it reconstructs well.

    .. math:: E(x) = \lVert \mathrm{Dec}(\mathrm{Enc}(x)) - x \rVert_2^2 \qquad (2.12)

    With data alone to lower it, nothing keeps the energy high elsewhere but what limits the code:
    few components, few that are active (`gencore.nn.KSparse`, `gencore.nn.WinnerTakeAll`), or a
    penalty (`AutoencoderEBM`). A linear auto-encoder with c components has at best the sum
    of the variances that the first c principal components leave.

    Args:
        encoder: x [N, ...] → codes [N, ...].
        decoder: codes → [N, ...] like x.
        activation: applied to the codes; none if not given.

    Raises:
        ValueError: on a call, for a decoder whose results are not like the data.

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, (2.11) and (2.12); Ranzato,
        Boureau, Chopra and LeCun, "A unified energy-based framework for unsupervised learning",
        2007.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gencore.nn import KSparse
        >>> energy = AutoencoderEnergy(nn.Linear(6, 4), nn.Linear(4, 6), activation=KSparse(2))
        >>> x = torch.randn(3, 6)
        >>> energy(x).shape, (energy.encode(x) != 0).sum(1)
        (torch.Size([3]), tensor([2, 2, 2]))
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.activation = nn.Identity() if activation is None else activation

    def encode(self, x: Tensor) -> Tensor:
        """The codes of data, after the activation."""
        code: Tensor = self.activation(self.encoder(x))
        return code

    def reconstruct(self, x: Tensor) -> Tensor:
        """Dec(Enc(x)), [N, ...]."""
        return self.decode(self.encode(x), x)

    def decode(self, code: Tensor, like: Tensor) -> Tensor:
        """Dec of codes, which has to have the shape of `like`."""
        decoded: Tensor = self.decoder(code)
        if decoded.shape != like.shape:
            raise ValueError(
                f"AutoencoderEnergy: the decoder gives {list(decoded.shape)}; expected "
                f"{list(like.shape)}, as the data have"
            )
        return decoded

    def energy_and_codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x), [N], and the codes that it was made from, of one pass through the encoder.

        As the discriminator of an `gencore.objectives.EnergyGame` a generator lowers the energy of
        its samples, and by `gencore.objectives.pulling_away_term` keeps their codes apart.
        """
        codes = self.encode(x)
        return (self.decode(codes, x) - x).flatten(1).square().sum(1), codes

    def forward(self, x: Tensor) -> Tensor:
        """E(x), [N]."""
        return self.energy_and_codes(x)[0]
