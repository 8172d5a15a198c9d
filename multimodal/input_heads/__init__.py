"""Heads that see one input each: late fusion with its trusts, and auxiliary heads."""
