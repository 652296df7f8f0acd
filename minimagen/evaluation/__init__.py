"""Evaluation: the judge, prompt suites, alignment, and Fréchet distance."""
