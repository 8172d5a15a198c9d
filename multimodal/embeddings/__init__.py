"""Tasks whose answers are directions: metric learning, contrastive pairs, names of classes."""
