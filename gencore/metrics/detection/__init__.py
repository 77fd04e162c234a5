"""Detection of data from elsewhere by a score."""
