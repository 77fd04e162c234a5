"""Games whose discriminator judges batches of mixed data and samples (Lucas 2020, ch. 4)."""
