"""Scores from the predictions of a classifier on samples."""
