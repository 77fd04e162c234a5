"""How well labels can be read off features in a line: a linear L2 support vector machine."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.extras import training_extra

__all__ = ["linear_svm_error"]


def linear_svm_error(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    strengths: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0, 10.0),
    seed: int = 0,
) -> float:
    r"""The test error of a linear support vector machine with squared hinge loss, one a class.

    .. math:: \min_{w, b} \tfrac12 \|w\|^2 + C \sum_i \max(0, 1 - t_i(w^\top h_i + b))^2,
              \quad t_i = \pm 1

    The features are centred and divided by one number, the root of their mean variance, so that C
    means the same for features of any scale; features of no variance at all stay 0. Where several C
    are given, the one that three-fold cross-validation on the training labels likes best is taken.

    Args:
        train: features [N, D] and their labels, int64 [N], of two classes or more.
        test: the same of the test set.
        strengths: values of C.
        seed: of the folds and of the solver.

    Returns:
        The fraction of the test labels that are wrong, in [0, 1].

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: shapes do not fit, there is one class only, or a class has fewer than three
            training examples while several C are given.

    Source:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §2.2.3.2, which does not state C.

    Example:
        >>> import torch
        >>> x = torch.cat([torch.randn(50, 2) - 5, torch.randn(50, 2) + 5])
        >>> labels = torch.arange(100) // 50
        >>> linear_svm_error((x, labels), (x, labels))
        0.0
    """
    with training_extra("linear_svm_error"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.svm import LinearSVC

    for name, (features, labels) in (("train", train), ("test", test)):
        if features.dim() != 2 or labels.shape != features.shape[:1] or len(features) == 0:
            raise ValueError(
                f"linear_svm_error: {name} has features {list(features.shape)} and labels "
                f"{list(labels.shape)}; expected [N, D] and [N], N ≥ 1"
            )
    if len(strengths) == 0 or min(strengths) <= 0:
        raise ValueError(
            f"linear_svm_error: strengths are {tuple(strengths)}; expected positive numbers"
        )
    counts = train[1].unique(return_counts=True)[1]
    least = 3 if len(strengths) > 1 else 1
    if len(counts) < 2 or int(counts.min()) < least:
        raise ValueError(
            f"linear_svm_error: the training labels have {len(counts)} classes, of at least "
            f"{int(counts.min())} examples; expected 2 or more, of {least} or more each"
        )
    x, y = (part[0].detach().double().cpu() for part in (train, test))
    mean = x.mean(0)
    scale = x.var(0, correction=0).mean().sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    x, y = ((part - mean) / scale for part in (x, y))
    answers, truth = (part[1].cpu().numpy() for part in (train, test))
    machine = LinearSVC(C=strengths[0], dual="auto", random_state=seed, max_iter=5000)
    with warnings.catch_warnings():
        # An end before the last digit moves no label of note.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(strengths) > 1:
            folds = StratifiedKFold(3, shuffle=True, random_state=seed)
            search = GridSearchCV(machine, {"C": list(strengths)}, cv=folds)
            machine = search.fit(x.numpy(), answers).best_estimator_
        else:
            machine.fit(x.numpy(), answers)
    return float((machine.predict(y.numpy()) != truth).mean())
