"""Numbers that become one of finitely or countably many, and the length of their codes."""

from gencore.nn.quantization.factorized_prior import EntropyModel, FactorizedPrior
from gencore.nn.quantization.vector_quantizer import Quantized, VectorQuantizer

__all__ = ["EntropyModel", "FactorizedPrior", "Quantized", "VectorQuantizer"]
