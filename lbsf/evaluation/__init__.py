"""How good a model is: metrics, tests of AUC, calibration, segments, reference distributions, the promotion gate."""
