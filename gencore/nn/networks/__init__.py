"""Networks that models share: perceptrons, conditioners of flows, MADE."""
