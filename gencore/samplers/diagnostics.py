"""Are the chains where they should be? R-hat and effective sample sizes by ArviZ, and pictures."""

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gencore.extras import samplers_extra
from gencore.samplers.chains import chain_size

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["plot_trace", "summary", "to_inference_data"]


def to_inference_data(
    trajectory: Tensor, energies: Tensor | None = None, *, name: str = "x"
) -> Any:
    """A trajectory as ArviZ's data structure, for all of its diagnostics and plots.

    Args:
        trajectory: [T, N, ...], T states of N chains, as `sample` returns it.
        energies: [T, N], their energies, as in `MetropolisInfo`; kept as `lp` = −E, the log density
            up to a constant, among the `sample_stats`.
        name: name of the variable in the `posterior` group.

    Returns:
        `arviz.InferenceData`, or the `xarray.DataTree` that took its place in ArviZ 1.

    Raises:
        ValueError: for shapes that do not fit.
        ModuleNotFoundError: without ArviZ, which the extra `samplers` installs.

    Example:
        >>> data = to_inference_data(torch.randn(100, 4, 2), torch.rand(100, 4))
        >>> data.posterior["x"].dims, data.sample_stats["lp"].shape
        (('chain', 'draw', 'x_dim_0'), (4, 100))

    References:
        Kumar et al., "ArviZ: a unified library for exploratory analysis of Bayesian models", 2019.
    """
    _check("to_inference_data", trajectory, energies)
    groups = {"posterior": {name: _array(trajectory.transpose(0, 1))}}
    if energies is not None:
        groups["sample_stats"] = {"lp": _array(-energies.T)}
    arviz = _import_arviz("to_inference_data")
    with warnings.catch_warnings():
        # It takes many short chains, the rule here, for a transposed array.
        warnings.filterwarnings("ignore", "More chains|Found chain", UserWarning)
        if arviz.__version__.startswith("0."):
            return arviz.from_dict(**groups)
        return arviz.from_dict(groups)


def summary(trajectory: Tensor, *, name: str = "x", **options: Any) -> "pandas.DataFrame":
    """Mean, spread, Monte Carlo errors, effective sample sizes and R-hat of each element.

    Chains agree where `r_hat` is below about 1.01, and the quantiles of an element are worth
    reporting where its `ess_bulk` and `ess_tail` are above about 400 (Vehtari et al. 2021).

    Args:
        trajectory: [T, N, ...], T ≥ 4 states of N chains, without those of the warm-up.
        name: what the rows are called.
        options: options of `arviz.summary`; values are not rounded unless `round_to` asks for it.

    Returns:
        A table with a row for each element, and the columns `mean`, `sd`, `mcse_mean`, `mcse_sd`,
        `ess_bulk`, `ess_tail`, `r_hat` among others.

    Raises:
        ValueError: for a trajectory without chains or of fewer than 4 states.
        ModuleNotFoundError: without ArviZ, which the extra `samplers` installs.

    Example:
        >>> trajectory = torch.randn(500, 4, 1, generator=torch.Generator().manual_seed(0))
        >>> summary(trajectory)["r_hat"].round(2)
        x[0]    1.0
        Name: r_hat, dtype: float64

    References:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner, "Rank-normalization, folding, and
        localization: an improved R-hat for assessing convergence of MCMC", 2021.
    """
    _check("summary", trajectory)
    if trajectory.shape[0] < 4 or trajectory.shape[1] == 0:
        raise ValueError(
            f"summary: trajectory has shape {list(trajectory.shape)}; "
            "expected at least 4 states of at least 1 chain"
        )
    arviz = _import_arviz("summary")
    return arviz.summary(
        to_inference_data(trajectory, name=name), **{"round_to": "none", **options}
    )


def plot_trace(
    trajectory: Tensor,
    energies: Tensor | None = None,
    *,
    max_chains: int = 8,
    max_elements: int = 4,
    name: str = "x",
) -> "Figure":
    """Traces of the first chains and elements beside the histograms of all chains.

    Args:
        trajectory: [T, N, ...], T states of N chains.
        energies: [T, N], drawn in a row of their own.
        max_chains: how many chains' traces are drawn.
        max_elements: how many elements get a row.
        name: what the elements are called.

    Returns:
        A `matplotlib` figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: for shapes that do not fit, or nothing to draw.
        ModuleNotFoundError: without matplotlib, which the extra `samplers` installs.

    Example:
        >>> figure = plot_trace(torch.randn(50, 4, 2), torch.rand(50, 4))
        >>> [axes.get_ylabel() for axes in figure.axes[::2]]
        ['x[0]', 'x[1]', 'energy']
    """
    _check("plot_trace", trajectory, energies)
    if max_chains < 1 or max_elements < 1 or trajectory.numel() == 0:
        raise ValueError(
            f"plot_trace: trajectory has shape {list(trajectory.shape)}, max_chains is "
            f"{max_chains}, max_elements {max_elements}; expected something to draw"
        )
    with samplers_extra("plot_trace"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    elements = trajectory.flatten(2) if trajectory.dim() > 2 else trajectory.unsqueeze(2)
    shape = trajectory.shape[2:]
    panels = {
        name + _subscript(number, shape): elements[:, :, number]
        for number in range(min(chain_size(trajectory[0]), max_elements))
    }
    if energies is not None:
        panels["energy"] = energies
    figure = Figure(figsize=(9.0, 1.8 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(panels), 2, squeeze=False, width_ratios=(3, 1), sharey="row")
    for (label, values), (trace, histogram) in zip(panels.items(), grid, strict=True):
        array = _array(values)
        trace.plot(array[:, :max_chains], linewidth=0.7)
        trace.set_ylabel(label)
        trace.margins(x=0.0)
        finite = array[torch.from_numpy(array).isfinite().numpy()]
        histogram.hist(finite, bins="sqrt", orientation="horizontal", density=True)
        histogram.set_xticks([])
    grid[-1, 0].set_xlabel("state")
    return figure


def _subscript(number: int, shape: torch.Size) -> str:
    """`[i, j]` of an element's place in a chain of this shape; nothing where there is only one."""
    places = []
    for size in reversed(shape):
        number, place = divmod(number, size)
        places.append(str(place))
    return f"[{', '.join(reversed(places))}]" if places else ""


def _check(op: str, trajectory: Tensor, energies: Tensor | None = None) -> None:
    if trajectory.dim() < 2:
        raise ValueError(
            f"{op}: trajectory has shape {list(trajectory.shape)}; expected states [T, N, ...], "
            "as sample(…, return_trajectory=True) returns them"
        )
    if energies is not None and energies.shape != trajectory.shape[:2]:
        raise ValueError(
            f"{op}: energies have shape {list(energies.shape)} for a trajectory of shape "
            f"{list(trajectory.shape)}; expected {list(trajectory.shape[:2])}"
        )


def _array(values: Tensor) -> Any:
    """For numpy, which has no bfloat16."""
    values = values.detach().cpu()
    return (values if values.dtype == torch.float64 else values.float()).numpy()


def _import_arviz(needed_for: str) -> Any:
    with samplers_extra(needed_for), warnings.catch_warnings():
        # Its last 0.x versions announce ArviZ 1, with which this module works as well.
        warnings.filterwarnings("ignore", category=FutureWarning)
        import arviz
    return arviz
