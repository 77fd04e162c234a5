"""Layers and tools for networks that the models share."""

from gencore.nn.block_pyramid import block_any, block_expand, block_mean
from gencore.nn.causal import (
    CausalConv2d,
    CausalConvTranspose2d,
    ContextMap,
    DiagonalBiLSTM,
    MaskedConv2d,
    PixelInput,
    PixelPlan,
    RowLSTM,
)
from gencore.nn.conditional_weight_norm import ConditionalWeightNorm
from gencore.nn.delta_code import DeltaCode, DeltaForm
from gencore.nn.gaussian_combinator import GaussianCombinator
from gencore.nn.growth_schedule import Growth, GrowthSchedule
from gencore.nn.likelihoods import (
    Categorical,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    DrawSpec,
    PixelLikelihood,
    QuantizedLogistic,
)
from gencore.nn.look_up_add import LookUpAdd
from gencore.nn.networks.bottleneck_regressor import BottleneckRegressor
from gencore.nn.networks.bottom_up import BottomUp
from gencore.nn.networks.conditioners import ConvConditioner, ResidualConditioner
from gencore.nn.networks.conv_autoencoder import ConvDecoder, ConvEncoder
from gencore.nn.networks.conv_discriminator import ConvDiscriminator
from gencore.nn.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gencore.nn.networks.denoising_mlp import DenoisingMLP
from gencore.nn.networks.denoising_unet import DenoisingUNet
from gencore.nn.networks.displacement_decoder import (
    DisplacementDecoder,
    start_variance_preserving,
)
from gencore.nn.networks.feature_stack import FeatureStack
from gencore.nn.networks.hourglass import Hourglass
from gencore.nn.networks.image_autoencoder import ImageDecoder, ImageEncoder
from gencore.nn.networks.infogan_autoencoder import InfoGANDecoder, InfoGANEncoder
from gencore.nn.networks.ladder_network import LadderNetwork, LadderPass
from gencore.nn.networks.level_conv_energy import LevelConvEnergy
from gencore.nn.networks.look_up_discriminator import LookUpDiscriminator
from gencore.nn.networks.made import MADE
from gencore.nn.networks.mlp import MLP
from gencore.nn.networks.mlp_energy import MLPEnergy
from gencore.nn.networks.monotonic_network import MonotonicNetwork
from gencore.nn.networks.notation import NotatedNetwork
from gencore.nn.networks.patch_discriminator import PatchDiscriminator
from gencore.nn.networks.progressive_gan import ProgressiveDiscriminator, ProgressiveGenerator
from gencore.nn.networks.projection_discriminator import ProjectionDiscriminator
from gencore.nn.networks.residual_autoencoder import ResidualDecoder, ResidualEncoder
from gencore.nn.networks.residual_mlp import ResidualMLP
from gencore.nn.networks.resnet_energy import ResNetEnergy, ResNetEnergyName
from gencore.nn.networks.resnet_generator import ResNetGenerator
from gencore.nn.networks.spatial_transformer import SpatialTransformerRegions
from gencore.nn.networks.state_transition import StateTransition
from gencore.nn.networks.time_embedding import TimeEmbedding
from gencore.nn.networks.time_mlp_energy import TimeMLPEnergy
from gencore.nn.networks.unet_generator import UNetGenerator
from gencore.nn.networks.velocity_mlp import VelocityMLP
from gencore.nn.networks.volume_autoencoder import VolumeDecoder, VolumeEncoder
from gencore.nn.perceptual_distance import PerceptualDistance
from gencore.nn.phase_pooling import PhasePool, PhaseUnpool
from gencore.nn.pixel_norm import PixelNorm
from gencore.nn.quantization import EntropyModel, FactorizedPrior, Quantized, VectorQuantizer
from gencore.nn.scattering import Scattering
from gencore.nn.sets import (
    DeepSets,
    EquivariantConv2d,
    EquivariantConvDiscriminator,
    EquivariantLinear,
    EquivariantMLP,
    InvariantNetwork,
    MinibatchDiscrimination,
    MinibatchStdDev,
    SetPooling,
)
from gencore.nn.sparse_codes import KSparse, WinnerTakeAll, keep_largest
from gencore.nn.stop_gradient import stop_gradient
from gencore.nn.transforms import (
    ActNorm,
    AffineCoupling,
    CircularSplineCoupling,
    Compose,
    ContinuousTransform,
    ElementwiseAffine,
    EmbeddedContext,
    Inverse,
    InverseAutoregressive,
    InvertibleConv1x1,
    LinearStart,
    Logit,
    LULinear,
    MaskedAutoregressive,
    MaskedAutoregressiveSpline,
    MonotonicAutoregressive,
    MonotonicElementwise,
    MultiScale,
    Permutation,
    Planar,
    Radial,
    Reversible,
    Rewound,
    SplineCoupling,
    Squeeze,
    TorchBijection,
    TorchTransform,
    Transform,
    UniformDequantization,
    VariationalDequantization,
)
from gencore.nn.weight_clipping import clip_weights

__all__ = [
    "MADE",
    "MLP",
    "ActNorm",
    "AffineCoupling",
    "BottleneckRegressor",
    "BottomUp",
    "Categorical",
    "CausalConv2d",
    "CausalConvTranspose2d",
    "CircularSplineCoupling",
    "Compose",
    "ConditionalWeightNorm",
    "ContextMap",
    "ContinuousTransform",
    "ConvConditioner",
    "ConvDecoder",
    "ConvDiscriminator",
    "ConvEncoder",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DeepSets",
    "DeltaCode",
    "DeltaForm",
    "DenoisingMLP",
    "DenoisingUNet",
    "DiagonalBiLSTM",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "DisplacementDecoder",
    "DrawSpec",
    "ElementwiseAffine",
    "EmbeddedContext",
    "EntropyModel",
    "EquivariantConv2d",
    "EquivariantConvDiscriminator",
    "EquivariantLinear",
    "EquivariantMLP",
    "FactorizedPrior",
    "FeatureStack",
    "GaussianCombinator",
    "Growth",
    "GrowthSchedule",
    "Hourglass",
    "ImageDecoder",
    "ImageEncoder",
    "InfoGANDecoder",
    "InfoGANEncoder",
    "InvariantNetwork",
    "Inverse",
    "InverseAutoregressive",
    "InvertibleConv1x1",
    "KSparse",
    "LULinear",
    "LadderNetwork",
    "LadderPass",
    "LevelConvEnergy",
    "LinearStart",
    "Logit",
    "LookUpAdd",
    "LookUpDiscriminator",
    "MLPEnergy",
    "MaskedAutoregressive",
    "MaskedAutoregressiveSpline",
    "MaskedConv2d",
    "MinibatchDiscrimination",
    "MinibatchStdDev",
    "MonotonicAutoregressive",
    "MonotonicElementwise",
    "MonotonicNetwork",
    "MultiScale",
    "NotatedNetwork",
    "PatchDiscriminator",
    "PerceptualDistance",
    "Permutation",
    "PhasePool",
    "PhaseUnpool",
    "PixelInput",
    "PixelLikelihood",
    "PixelNorm",
    "PixelPlan",
    "Planar",
    "ProgressiveDiscriminator",
    "ProgressiveGenerator",
    "ProjectionDiscriminator",
    "Quantized",
    "QuantizedLogistic",
    "Radial",
    "ResNetEnergy",
    "ResNetEnergyName",
    "ResNetGenerator",
    "ResidualConditioner",
    "ResidualDecoder",
    "ResidualEncoder",
    "ResidualMLP",
    "Reversible",
    "Rewound",
    "RowLSTM",
    "Scattering",
    "SetPooling",
    "SpatialTransformerRegions",
    "SplineCoupling",
    "Squeeze",
    "StateTransition",
    "TimeEmbedding",
    "TimeMLPEnergy",
    "TorchBijection",
    "TorchTransform",
    "Transform",
    "UNetGenerator",
    "UniformDequantization",
    "VariationalDequantization",
    "VectorQuantizer",
    "VelocityMLP",
    "VolumeDecoder",
    "VolumeEncoder",
    "WinnerTakeAll",
    "block_any",
    "block_expand",
    "block_mean",
    "clip_weights",
    "keep_largest",
    "start_variance_preserving",
    "stop_gradient",
]
