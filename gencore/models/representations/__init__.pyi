from gencore.models.representations.slow_features import SlowFeatures, quadratic_expansion

__all__ = ["SlowFeatures", "quadratic_expansion"]
