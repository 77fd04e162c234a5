"""What measures of captions ask of their arguments."""

from collections.abc import Sequence

__all__ = ["check_references"]


def check_references(
    function: str, candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> None:
    """Raise unless there are candidates and each has references, in a list of its own."""
    if isinstance(candidates, str) or any(isinstance(some, str) for some in references):
        raise ValueError(
            f"{function}: a string is where a list is expected; expected candidates as a list of "
            "captions, and for each of them a list of references"
        )
    if not candidates or len(candidates) != len(references) or not all(map(len, references)):
        raise ValueError(
            f"{function}: {len(candidates)} candidates and {len(references)} lists of "
            f"{sorted({len(some) for some in references})} references; expected one or more "
            "candidates, and one or more references for each"
        )
