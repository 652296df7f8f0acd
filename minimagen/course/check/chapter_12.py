"""Checks of chapter 12's exercises."""
