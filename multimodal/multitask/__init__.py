"""Several tasks in one model: their weights, their conflicts, and what each has to itself."""
