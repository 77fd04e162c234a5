"""A morphable model of random bases, and poses."""

import torch

from gencore.models import MorphableModel, Pose

__all__ = ["NUM_LANDMARKS", "make_model", "make_pose", "normals"]

NUM_VERTICES, NUM_LANDMARKS = 60, 20


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_model(num_identity=4, num_expression=3, seed=1):
    bases = 0.1 * normals(NUM_VERTICES, 3, num_identity + num_expression, seed=seed)
    return MorphableModel(
        normals(NUM_VERTICES, 3, seed=seed + 1),
        bases[..., :num_identity],
        bases[..., num_identity:],
        torch.arange(0, NUM_VERTICES, NUM_VERTICES // NUM_LANDMARKS),
    )


def make_pose(count, seed=2):
    scale = normals(count, seed=seed).exp()
    angles, translation = normals(count, 3, seed=seed + 1), normals(count, 3, seed=seed + 2)
    return Pose.from_angles(angles, scale, translation)
