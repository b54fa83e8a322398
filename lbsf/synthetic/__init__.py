"""The payment simulator: numpy kernels of one chunk of users, and Spark over the chunks."""
