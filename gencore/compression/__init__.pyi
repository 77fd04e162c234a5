from gencore.compression.agave import AGAVEModel
from gencore.compression.auxiliary_pixelcnn import AuxiliaryPixelCNNModel
from gencore.compression.class_conditional import ClassConditionalModel
from gencore.compression.codec import CompressingModel, compress, decompress
from gencore.compression.coder import decode_images, encode_images
from gencore.compression.container import CompressedFileError
from gencore.compression.darn import DARNModel
from gencore.compression.exact_model import ExactModel
from gencore.compression.image_files import read_exact_images, write_exact_images
from gencore.compression.multi_scale import MultiScaleModel
from gencore.compression.session import (
    TOTAL_FREQUENCY,
    ChainModel,
    Code,
    CodingModel,
    LatentModel,
    LevelFrequencies,
)
from gencore.compression.vq_vae import VQVAEModel

__all__ = [
    "TOTAL_FREQUENCY",
    "AGAVEModel",
    "AuxiliaryPixelCNNModel",
    "ChainModel",
    "ClassConditionalModel",
    "Code",
    "CodingModel",
    "CompressedFileError",
    "CompressingModel",
    "DARNModel",
    "ExactModel",
    "LatentModel",
    "LevelFrequencies",
    "MultiScaleModel",
    "VQVAEModel",
    "compress",
    "decode_images",
    "decompress",
    "encode_images",
    "read_exact_images",
    "write_exact_images",
]
