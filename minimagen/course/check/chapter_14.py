"""Checks of chapter 14's exercises."""
