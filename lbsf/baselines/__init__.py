"""What LBSF is measured against: gradient boosting on plain aggregates of the same folds."""
