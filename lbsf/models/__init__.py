"""The network's modules, saved models and leave-one-out reasons; without Spark."""
