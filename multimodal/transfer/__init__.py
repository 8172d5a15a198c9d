"""Transfer methods: a strategy returns a plan as data, which the trainer executes."""
