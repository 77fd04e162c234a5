"""Autoregressive models."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_MODELS = "compression/test_models.py"

SYSTEMS = (
    System(
        id="L34",
        name="Lossless coder",
        source="Lucas 2020, §6.2.1",
        implementation="gencore.compression.compress",
        test=f"{_MODELS}::test_images_come_back_from_as_many_bits_as_the_model_says",
        further_implementations=("gencore.compression.decompress",),
        further_tests=(
            f"{_MODELS}::test_a_model_of_equal_logits_takes_8_bits_a_value",
            f"{_MODELS}::test_other_processes_threads_and_instruction_sets_decode",
            "compression/test_coder.py::test_a_stream_is_that_of_exact_arithmetic",
        ),
        notes="the thesis names no coder: it is the range coder of the package constriction, "
        "with whole-number frequencies of sum 2^24",
    ),
)
