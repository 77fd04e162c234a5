"""A small classifier that trains quickly, for tests that do not depend on how good it is."""

import pytest


@pytest.fixture
def quick_classifier(monkeypatch):
    """Ten steps of the classifier in whose features distances are."""
    from gencore.metrics import ClassifierFeatures

    fit = ClassifierFeatures.fit.__func__
    quick = classmethod(
        lambda cls, *args, **options: fit(cls, *args, **{"num_steps": 10, **options})
    )
    monkeypatch.setattr(ClassifierFeatures, "fit", quick)
