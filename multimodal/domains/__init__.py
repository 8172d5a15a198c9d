"""Source, target and unlabelled tables in one training: settings, weights of records, losses between."""
