"""R-hat and effective sample sizes of chains whose own are known, and the figures."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from testing.chain_testing import key, normal, quadratic

from gencore.samplers import HMC, plot_trace, summary, to_inference_data

pytest.importorskip("arviz")
pytest.importorskip("matplotlib")


def autoregressive(correlation, num_states, num_chains, seed=0):
    """x_t = ρ x_{t−1} + √(1 − ρ²) ξ, a chain with N(0, 1) and integrated time (1 + ρ)/(1 − ρ)."""
    noise = normal(num_states, num_chains, seed=seed)
    states = [noise[0]]
    for xi in noise[1:]:
        states.append(correlation * states[-1] + math.sqrt(1 - correlation**2) * xi)
    return torch.stack(states).unsqueeze(-1)


class TestInferenceData:
    def test_chains_come_first(self):
        trajectory, energies = normal(7, 3, 2, 4), normal(7, 3)
        data = to_inference_data(trajectory, energies, name="theta")
        values = data.posterior["theta"]
        assert values.dims[:2] == ("chain", "draw")
        assert values.shape == (3, 7, 2, 4)
        np.testing.assert_array_equal(values.values[2, 5], trajectory[5, 2].numpy())
        np.testing.assert_array_equal(data.sample_stats["lp"].values[2], -energies[:, 2].numpy())

    def test_without_energies(self):
        assert "sample_stats" not in to_inference_data(normal(7, 3, 2))

    def test_scalar_chains_and_bfloat16(self):
        data = to_inference_data(normal(7, 3).bfloat16().requires_grad_())
        assert data.posterior["x"].shape == (3, 7)

    def test_what_a_sampler_returns_fits(self):
        x, info = HMC(quadratic(), 0.5, 3).sample(
            normal(4, 2), 20, key=key(1), return_trajectory=True, return_info=True, thin=2
        )
        data = to_inference_data(x, info.energy)
        np.testing.assert_allclose(
            -data.sample_stats["lp"].values,
            0.5 * np.square(data.posterior["x"].values).sum(-1),
            rtol=1e-5,
        )

    def test_bad_input_is_explained(self):
        with pytest.raises(ValueError, match=r"trajectory has shape \[7\]; expected states"):
            to_inference_data(torch.zeros(7))
        with pytest.raises(ValueError, match=r"energies have shape \[3, 7\].*expected \[7, 3\]"):
            to_inference_data(torch.zeros(7, 3, 2), torch.zeros(3, 7))


class TestSummary:
    @pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
    def test_effective_sample_size(self, correlation):
        """TN(1 − ρ)/(1 + ρ) of autoregressive chains, with the estimate's error of some percent."""
        table = summary(autoregressive(correlation, 5000, 8))
        expected = 40_000 * (1 - correlation) / (1 + correlation)
        assert table["ess_bulk"].iloc[0] == pytest.approx(expected, rel=0.12)
        assert table["r_hat"].iloc[0] < 1.01
        standard_error = table["mcse_mean"].iloc[0]
        assert standard_error == pytest.approx(1 / math.sqrt(expected), rel=0.1)
        assert abs(table["mean"].iloc[0]) < 4 * standard_error

    def test_chains_that_disagree(self):
        """One of four chains is moved by 3: R-hat tells."""
        trajectory = normal(500, 4, 2)
        trajectory[:, 0, 1] += 3
        table = summary(trajectory, name="theta")
        assert list(table.index) == ["theta[0]", "theta[1]"]
        assert table["r_hat"].iloc[0] < 1.01
        assert table["r_hat"].iloc[1] > 1.3

    def test_options_reach_arviz(self):
        table = summary(normal(50, 4, 2), kind="stats")
        assert "mean" in table
        assert "r_hat" not in table

    def test_bad_input_is_explained(self):
        with pytest.raises(ValueError, match="at least 4 states of at least 1 chain"):
            summary(torch.zeros(3, 2, 1))
        with pytest.raises(ValueError, match="at least 4 states of at least 1 chain"):
            summary(torch.zeros(5, 0, 1))


class TestPlotTrace:
    def test_what_is_drawn(self, tmp_path):
        trajectory, energies = normal(30, 20, 2, 3), normal(30, 20)
        figure = plot_trace(trajectory, energies, max_chains=5, max_elements=4)
        traces = figure.axes[::2]
        labels = ["x[0, 0]", "x[0, 1]", "x[0, 2]", "x[1, 0]", "energy"]
        assert [axes.get_ylabel() for axes in traces] == labels
        assert [len(axes.lines) for axes in traces] == [5] * 5
        np.testing.assert_array_equal(
            traces[3].lines[2].get_ydata(), trajectory[:, 2, 1, 0].numpy()
        )
        np.testing.assert_array_equal(traces[4].lines[0].get_ydata(), energies[:, 0].numpy())
        figure.savefig(tmp_path / "trace.png")
        assert (tmp_path / "trace.png").stat().st_size > 1000

    def test_scalar_chains_and_infinite_energies(self):
        energies = torch.zeros(10, 3)
        energies[0] = torch.inf
        figure = plot_trace(normal(10, 3), energies, name="theta")
        assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["theta", "energy"]

    @pytest.mark.parametrize(
        "options", [{"trajectory": torch.zeros(0, 3, 2)}, {"max_chains": 0}, {"max_elements": 0}]
    )
    def test_bad_input_is_explained(self, options):
        with pytest.raises(ValueError, match="expected something to draw"):
            plot_trace(**{"trajectory": torch.zeros(5, 3, 2), **options})


class TestExtra:
    def test_the_package_needs_neither_arviz_nor_matplotlib(self):
        """Imported where both are hidden, it says at the call what to install."""
        program = """
import sys
sys.modules["arviz"] = sys.modules["matplotlib"] = None
import torch
from gencore.samplers import plot_trace, summary, to_inference_data
for function in (plot_trace, summary, to_inference_data):
    try:
        function(torch.zeros(5, 3, 2))
    except ModuleNotFoundError as error:
        print(error)
"""
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines() == [
            "plot_trace needs the package matplotlib: pip install 'gencore[samplers]'",
            "summary needs the package arviz: pip install 'gencore[samplers]'",
            "to_inference_data needs the package arviz: pip install 'gencore[samplers]'",
        ]
