"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["CodecName"]

CodecName = Literal["png", "jpeg2000", "zlib", "lzma"]
