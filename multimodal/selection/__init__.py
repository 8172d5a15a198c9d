"""Choice of encoders, and whether transfer helped: ranking, comparisons, the guard."""
