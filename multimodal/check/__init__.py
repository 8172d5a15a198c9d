"""What is wrong with a job's tables, found before a minute of training. Never imports torch."""
