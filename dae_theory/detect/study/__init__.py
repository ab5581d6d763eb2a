"""Trained models on which detectors of memorized images are judged, and what was measured there."""
