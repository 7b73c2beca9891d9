"""torchmetrics: how well noise and x_0 are predicted."""
