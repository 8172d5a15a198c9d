"""Which encoder, which strategy, and whether it helped: ranking, comparisons, the guard."""
