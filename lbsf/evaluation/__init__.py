"""Model evaluation: metrics, AUC tests, calibration, segments, reference distributions and the promotion gate."""
