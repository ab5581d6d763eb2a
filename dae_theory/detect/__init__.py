"""Detection: is this image memorized by this model? Scores, their calibration, and the command."""
