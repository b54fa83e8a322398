"""The payment simulator: numpy simulates one chunk of users, Spark runs over the chunks."""
