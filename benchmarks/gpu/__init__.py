"""Training and scoring on a GPU: what it brings, what it waits for, and whether it computes the same."""
