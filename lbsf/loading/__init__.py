"""From Delta's files to batches. Only petastorm_reader.py imports Petastorm."""
