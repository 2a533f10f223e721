"""Slow, explicit layer-wise relevance propagation in float64, written from the papers' equations, to test the engine against.

Nothing here differentiates: relevance is divided backwards operation by operation. Sources: Bach et al. 2015 (the basic rule);
AttnLRP, arXiv 2402.05602 (softmax, products, norms, activations); Ali et al., ICML 2022 (CP-LRP: attention and norm constant).
"""
