"""Tests of whether transfer helps: paired gaps between arms, their intervals, a verdict that may abstain."""
