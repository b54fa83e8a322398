"""Reads batches of folds from Delta's Parquet files. Only petastorm_reader.py imports Petastorm."""
