"""Heads from features alone; the linear ones end as weights and a bias."""
