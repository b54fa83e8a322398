"""Folds in memory: many users' folds as flat arrays, and reduced views of them."""
