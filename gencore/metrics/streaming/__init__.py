"""The measures as torchmetrics: updated batch by batch, synchronised over processes."""
