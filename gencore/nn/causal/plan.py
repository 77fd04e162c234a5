"""A causal network as a program that computes the features of one pixel after another.

The network's forward pass is traced by :mod:`torch.fx`; each operation on features that depend on
the image becomes an instruction (csrc/arguments/pixel_plan.h), and what depends on the context
alone is computed once, before the first pixel.
"""




__all__ = ["CausalNetwork", "PixelPlan", "PlanState"]
