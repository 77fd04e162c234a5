"""An option that is one of a few strings is refused where it is given, and named."""

from functools import partial

import pytest
import torch
from torch import nn

from gencore.data import hidden_pixels, load_density, load_images
from gencore.data.splits import split_indices
from gencore.models import (
    IAF,
    MAF,
    ContinuousFlow,
    ConvEnergy,
    CouplingFlow,
    FlowEBM,
    FlowPosterior,
    Glow,
    MultiGridEBM,
    PlanarFlow,
    RadialFlow,
    ResidualFlow,
    SplineFlow,
)
from gencore.nn import MADE, MLP, AffineCoupling, MLPEnergy, ResidualMLP, SplineCoupling
from gencore.ops import affine_coupling, backend, conv_network, made_inverse, mlp_network
from gencore.ops.mlp import mlp_energy
from gencore.recipes.ebm.densities import DensitiesRecipe
from gencore.recipes.ebm.ebm import EBMRecipe
from gencore.recipes.ebm.multigrid import MultiGridRecipe
from gencore.recipes.flows.glow import GlowRecipe
from gencore.recipes.flows.toyflow import ToyFlowRecipe
from gencore.samplers import EulerFlow, GradientFlow, ParallelTempering, annealing_schedule

X, W, B = torch.zeros(2, 2), [torch.zeros(2, 2)] * 2, [torch.zeros(2)] * 2
MASKED = ([W[0], torch.zeros(4, 2)], [B[0], torch.zeros(4)], torch.tensor([[0, 1]]))

# The option, and what takes it; each is called with a value that is none of its choices.
CASES = [
    ("objective", partial(FlowEBM, MLPEnergy(2), (2,))),
    ("trace", partial(FlowEBM, MLPEnergy(2), (2,))),
    ("trace", partial(FlowEBM, MLPEnergy(2), (2,), num_steps=3)),
    ("trace", partial(GradientFlow, MLPEnergy(2), 1.0)),
    ("log_det", partial(EulerFlow, MLPEnergy(2), 0.1, 2)),
    ("on_failure", partial(EulerFlow, MLPEnergy(2), 0.1, 2)),
    ("log_det", partial(ResidualFlow, 2)),
    ("trace", partial(ContinuousFlow, 2)),
    ("solver", partial(ContinuousFlow, 2)),
    ("kernel", partial(ParallelTempering, MLPEnergy(2), (1, 0.5), 0.1)),
    ("kind", partial(annealing_schedule, num_steps=3)),
    ("base", partial(CouplingFlow, 2)),
    ("coupling", partial(Glow, (1, 8, 8))),
    ("explicit", partial(PlanarFlow, 2)),
    ("explicit", partial(RadialFlow, 2)),
    ("name", ConvEnergy.preset),
    ("mask", partial(AffineCoupling, nn.Linear(1, 2))),
    ("mask", partial(SplineCoupling, nn.Linear(1, 2))),
    ("activation", partial(MLP, 2, (2,), 1)),
    ("activation", partial(ResidualMLP, 2, 2, 1)),
    ("activation", partial(SplineFlow, 2)),
    ("activation", partial(MADE, 2, (2,))),
    ("activation", partial(MLPEnergy, 2)),
    ("activation", partial(MAF, 2)),
    ("activation", partial(IAF, 2)),
    ("activation", partial(FlowPosterior, 2)),
    ("activation", partial(mlp_network, X, W, B)),
    ("activation", partial(mlp_energy, X, [], [])),
    ("activation", partial(conv_network, X[:, :, None, None], [W[0][:, :, None, None]], B[:1])),
    ("activation", partial(made_inverse, X, *MASKED)),
    ("step", partial(made_inverse, X, *MASKED)),
    ("mask", partial(affine_coupling, X, X, X)),
    ("name", MultiGridEBM.preset),
    ("name", load_density),
    ("name", partial(hidden_pixels, num=1, size=(4, 4))),
    ("split", partial(load_images, "digits")),
    ("split", partial(split_indices, 10)),
    ("objective", DensitiesRecipe),
    ("sampler", DensitiesRecipe),
    ("trace", DensitiesRecipe),
    ("density", DensitiesRecipe),
    ("density", ToyFlowRecipe),
    ("model", ToyFlowRecipe),
    ("network", EBMRecipe),
    ("network", MultiGridRecipe),
    ("chains", MultiGridRecipe),
    ("model", GlowRecipe),
    ("coupling", GlowRecipe),
    ("dequantization", GlowRecipe),
    ("optimizer", GlowRecipe),
]  # fmt: skip


@pytest.mark.parametrize(("option", "call"), CASES)
def test_another_value_is_refused(option, call):
    values = ["mle", "ML", "", None, ["ml"]]
    if option == "mask" and call.func is affine_coupling:
        values.remove(None)  # which means that all of x is transformed
    for value in values:
        with pytest.raises(ValueError, match=rf"{option} (is|=) .*expected"):
            call(**{option: value})


def test_another_backend_is_refused():
    expected = "name is 'fast'; expected one of native, reference"
    with pytest.raises(ValueError, match=expected), backend("fast"):
        pass
