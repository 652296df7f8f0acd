"""What the notebooks need: checks of exercises, figures, widgets."""
