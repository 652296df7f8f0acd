"""Training: the loop, its optimizers, checkpoints, and a run as the command line asks for it."""
