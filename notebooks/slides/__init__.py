"""Talks made from the complete editions."""
