"""Distances between images and between sets of them, for training and evaluation alike."""
