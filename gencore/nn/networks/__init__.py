"""Networks and layers that models share: perceptrons, conditioners of flows, MADE, masked
convolutions."""
