"""Parquet shards: what several processes write instead of one DuckDB file, and how they are merged into it."""
