"""The training loop. Only distributed.py imports Horovod."""
