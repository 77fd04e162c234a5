"""Discriminators that are told the class by a projection (Miyato and Koyama 2018)."""

from torch import Tensor, nn

from gencore.nn.class_labels import check_labels
from gencore.sizes import check_positive

__all__ = ["ProjectionDiscriminator"]


class ProjectionDiscriminator(nn.Module):
    r"""One logit of how real a data point looks, given its class.

    .. math:: D(x, y) = \phi(x) \cdot e(y) + \psi(\phi(x)) \qquad (3)

    φ are the features of a network, ψ is linear and e(y) a vector a class. Where the features of
    data and of samples are normal, with one covariance Σ and the means μ(y) and ν(y), the best
    logit ln p(x|y)/q(x|y) has this form up to a number a class: its slope is Σ⁻¹(μ(y) − ν(y)).

    Args:
        features: φ, data [N, ...] → [N, F].
        num_features: F.
        num_classes: K.

    Shape:
        [N, ...] and labels int64 [N] → [N].

    Raises:
        ValueError: for sizes that are not positive; on a call, for features that are not [N, F], or
            labels that are not [N].
        IndexError: on a call, for a label that is no class.

    References:
        Miyato and Koyama, "cGANs with projection discriminator", 2018, (3) and figure 1 d.
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §5.6.1.

    Example:
        >>> import torch
        >>> from gencore.nn import MLP, ProjectionDiscriminator
        >>> discriminator = ProjectionDiscriminator(MLP(2, (16,), 8), 8, num_classes=3)
        >>> discriminator(torch.zeros(4, 2), torch.tensor([0, 1, 2, 0])).shape
        torch.Size([4])
    """

    def __init__(self, features: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__()
        check_positive(
            "ProjectionDiscriminator", num_features=num_features, num_classes=num_classes
        )
        self.features = features
        self.last = nn.Linear(num_features, 1)
        self.embedding = nn.Embedding(num_classes, num_features)
        nn.init.xavier_uniform_(self.embedding.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        check_labels("ProjectionDiscriminator", labels, len(x), self.embedding.num_embeddings)
        features: Tensor = self.features(x)
        if features.shape != (len(x), self.last.in_features):
            raise ValueError(
                f"ProjectionDiscriminator: features have shape {list(features.shape)}; expected "
                f"{[len(x), self.last.in_features]}"
            )
        logits: Tensor = self.last(features).squeeze(1)
        return logits + (features * self.embedding(labels)).sum(1)
