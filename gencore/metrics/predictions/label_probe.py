"""What a code tells of a label: the error of a small network that predicts the one of the other."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gencore.ops._support.checks import check_count

__all__ = ["label_probe_error"]

_CHECK_EVERY = 25
_PATIENCE = 6  # checks without a lower validation loss
_BATCH = 256


def label_probe_error(
    codes: Tensor,
    labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    *,
    hidden_width: int = 256,
    max_steps: int = 2000,
    seed: int = 0,
) -> float:
    """The share of test labels that a two-layer network gets wrong, trained on other codes.

    Codes are standardised by the training ones. A fifth of the training codes is held out: the
    weights with the least loss on it are kept, and training stops where it has fallen no more for
    150 steps. The error of chance is 1 less the share of the most frequent label.

    Args:
        codes: training codes [N, D], N ≥ 5.
        labels: int64 [N].
        test_codes: [M, D].
        test_labels: int64 [M].
        hidden_width: units of the hidden layer.
        max_steps: of Adam, with learning rate 0.001 and 256 codes each.
        seed: of the weights, the held-out part and the batches.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        Mathieu, "Unsupervised learning under uncertainty", 2017, §5.4.6 and table 5.2.

    Example:
        >>> import torch
        >>> labels = torch.arange(100) % 2
        >>> codes = labels[:, None] + 0.01 * torch.randn(100, 3)
        >>> label_probe_error(codes, labels, codes, labels)
        0.0
    """
    name = "label_probe_error"
    check_count(name, "hidden_width", hidden_width, least=1)
    check_count(name, "max_steps", max_steps, least=1)
    for which, c, n in (("codes", codes, labels), ("test_codes", test_codes, test_labels)):
        if c.ndim != 2 or n.shape != c.shape[:1] or c.shape[1] != codes.shape[1] or not len(c):
            raise ValueError(
                f"{name}: {which} have shape {list(c.shape)} and their labels {list(n.shape)}; "
                "expected [N, D] and [N], not empty, of one D"
            )
    if len(codes) < 5:
        raise ValueError(f"{name}: there are {len(codes)} training codes; expected at least 5")
    codes, labels = codes.detach().cpu().float(), labels.cpu()
    mean, std = codes.mean(0), codes.std(0).clamp(min=1e-6)
    classes = torch.cat([labels, test_labels.cpu()]).unique()
    x, y = (codes - mean) / std, torch.searchsorted(classes, labels)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    held, rest = order[: len(x) // 5], order[len(x) // 5 :]
    network = _network(x.shape[1], hidden_width, len(classes), generator)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    best, kept, waited = float("inf"), network.state_dict(), 0
    for step in range(1, max_steps + 1):
        rows = rest[torch.randint(len(rest), (min(_BATCH, len(rest)),), generator=generator)]
        optimizer.zero_grad()
        with torch.enable_grad():
            cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()
        if step % _CHECK_EVERY == 0 or step == max_steps:
            with torch.no_grad():
                loss = cross_entropy(network(x[held]), y[held]).item()
            if loss < best:
                best, waited = loss, 0
                kept = {key: value.clone() for key, value in network.state_dict().items()}
            else:
                waited += 1
                if waited == _PATIENCE:
                    break
    network.load_state_dict(kept)
    with torch.no_grad():
        logits = network((test_codes.detach().cpu().float() - mean) / std)
    wrong = classes[logits.argmax(1)] != test_labels.cpu()
    return wrong.float().mean().item()


def _network(num: int, width: int, classes: int, generator: torch.Generator) -> nn.Sequential:
    """Linear layers with torch's usual start, from a generator of their own."""
    layers = nn.Linear(num, width), nn.Linear(width, classes)
    for layer in layers:
        bound = layer.in_features**-0.5
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])
