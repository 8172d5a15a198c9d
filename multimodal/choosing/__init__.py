"""Which encoder, which strategy, and whether the weights helped: by records, not by belief."""
