"""Why a language model got a benchmark question wrong: contrastive attribution for lm-evaluation-harness."""
