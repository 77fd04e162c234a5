from gencore.compression.codec import compress, decompress
from gencore.compression.coder import decode_images, encode_images
from gencore.compression.container import CompressedFileError
from gencore.compression.exact_model import ExactModel
from gencore.compression.image_files import read_exact_images, write_exact_images
from gencore.compression.session import TOTAL_FREQUENCY, CodingModel, LevelFrequencies

__all__ = [
    "TOTAL_FREQUENCY",
    "CodingModel",
    "CompressedFileError",
    "ExactModel",
    "LevelFrequencies",
    "compress",
    "decode_images",
    "decompress",
    "encode_images",
    "read_exact_images",
    "write_exact_images",
]
