"""Predictions of thousands of images: each a task of its own, with a state that outlives whoever did it."""
