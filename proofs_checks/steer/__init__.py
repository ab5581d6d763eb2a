"""Steering: what moves along a direction of the representation, predicted and measured."""
