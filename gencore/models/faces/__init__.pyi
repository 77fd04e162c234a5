from gencore.models.faces.delta_motion import DeltaAnimation, DeltaMotion, DeltaMotionLoss
from gencore.models.faces.dense_motion import DenseMotion, DenseMotionNetwork
from gencore.models.faces.face_control import (
    eye_shift,
    frontal_landmarks,
    random_expression_landmarks,
    reenacted_landmarks,
)
from gencore.models.faces.face_fit import FaceFit, fit_landmarks
from gencore.models.faces.first_order_motion import (
    EquivarianceLoss,
    FirstOrderLoss,
    FirstOrderMotion,
    relative_key_points,
)
from gencore.models.faces.key_point_animator import Animation, ImageDecoder, KeyPointAnimator
from gencore.models.faces.key_point_detector import KeyPointDetector
from gencore.models.faces.key_points import (
    KeyPoints,
    blended_flow,
    key_point_flows,
    key_point_heatmaps,
)
from gencore.models.faces.morphable_model import MorphableModel
from gencore.models.faces.pose import Pose, best_pose

__all__ = [
    "Animation",
    "DeltaAnimation",
    "DeltaMotion",
    "DeltaMotionLoss",
    "DenseMotion",
    "DenseMotionNetwork",
    "EquivarianceLoss",
    "FaceFit",
    "FirstOrderLoss",
    "FirstOrderMotion",
    "ImageDecoder",
    "KeyPointAnimator",
    "KeyPointDetector",
    "KeyPoints",
    "MorphableModel",
    "Pose",
    "best_pose",
    "blended_flow",
    "eye_shift",
    "fit_landmarks",
    "frontal_landmarks",
    "key_point_flows",
    "key_point_heatmaps",
    "random_expression_landmarks",
    "reenacted_landmarks",
    "relative_key_points",
]
