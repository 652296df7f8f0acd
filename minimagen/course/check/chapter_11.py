"""Checks of chapter 11's exercises."""
