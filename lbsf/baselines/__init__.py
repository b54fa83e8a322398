"""Baselines: LightGBM on aggregates of the folds, sequence models on unfolded payments, and both with LBSF."""
