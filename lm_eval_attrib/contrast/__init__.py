"""Finding the pair of tokens to explain: one strategy a file, one small protocol."""
