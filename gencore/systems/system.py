"""What the registry knows of a system: where it comes from, where its code is, what tests it."""

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["CAPABILITIES", "DOCUMENTS", "System", "resolve"]

DOCUMENTS = {
    "G": 'Gao, "Effective Learning of Descriptive and Generator Models and Learning '
    'Representations for Grid Cells and V1 Cells", PhD thesis, UCLA, 2021',
    "M": 'Mathieu, "Unsupervised Learning Under Uncertainty", PhD thesis, New York University, '
    "2017",
    "Y": 'Yan, "Deep Generative Models: Design, Improvements and Applications", PhD thesis, '
    "University of Chicago, 2022",
    "L": 'Lucas, "Deep generative models: over-generalisation and mode-dropping", PhD thesis, '
    "Université Grenoble Alpes, 2020",
    "B": 'Bruna, "Inference and Representation", Lecture 11, Courant Institute, NYU',
}
"""The document of an id's first letter, in the order in which the registry lists them."""

CAPABILITIES = ("log_prob", "sample", "encode", "decode", "score", "energy")


@dataclass(frozen=True, kw_only=True)
class System:
    """A model, sampler, measure or data set of one of the documents, and where its code is.

    It is entered only when its acceptance check stands as tests: they show, from closed forms or
    exact sums, that the code is the system that the document describes.

    Args:
        id: letter of the document and number of the system in it, such as "Y12".
        name: of the system, as the field calls it.
        source: author, year and section, such as "Yan 2022, §2.4.6".
        implementation: path of the class or function, such as "gencore.models.Glow".
        test: the acceptance check, a pytest node id below ``python_tests`` without parameters:
            "models/flows/test_flows.py::test_x" or "…::TestClass::test_x".
        recipe: that trains it, if there is one.
        further_implementations: paths of the classes and functions that it has besides.
        further_tests: node ids of the other parts of the acceptance check.
        notes: known differences from the source, and whatever else a user has to know.
        family: the file of :mod:`gencore.systems` that has the entry. The registry fills it in.

    Raises:
        ValueError: for an id that is not one of a document.

    Example:
        >>> glow = System(
        ...     id="Y23",
        ...     name="Glow",
        ...     source="Yan 2022, §3.3.6",
        ...     implementation="gencore.models.Glow",
        ...     test="models/flows/test_flows.py::test_image_flows_invert_with_exact_jacobians",
        ... )
        >>> glow.capabilities
        ('log_prob', 'sample')
    """

    id: str
    name: str
    source: str
    implementation: str
    test: str
    recipe: str | None = None
    further_implementations: tuple[str, ...] = ()
    further_tests: tuple[str, ...] = ()
    notes: str | None = None
    family: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"[{''.join(DOCUMENTS)}]\d\d", self.id):
            raise ValueError(
                f"System: id is {self.id!r}; expected a letter of {', '.join(DOCUMENTS)} and two "
                "digits"
            )

    @property
    def implementations(self) -> tuple[str, ...]:
        """All paths, the main one first."""
        return (self.implementation, *self.further_implementations)

    @property
    def tests(self) -> tuple[str, ...]:
        """All node ids, the main one first."""
        return (self.test, *self.further_tests)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Which of the methods of `CAPABILITIES` the implementation has; this imports it."""
        implementation = resolve(self.implementation)
        return tuple(name for name in CAPABILITIES if callable(getattr(implementation, name, None)))


def resolve(path: str) -> Any:
    """The class or function of a path such as "gencore.models.Glow".

    A name of the package comes before a module of the same name (`pkgutil.resolve_name` has it the
    other way round), as in "gencore.metrics.bits_per_dim".

    Raises:
        ImportError, AttributeError: if it is not there.

    Example:
        >>> resolve("gencore.metrics.bits_per_dim").__name__
        'bits_per_dim'
    """
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
