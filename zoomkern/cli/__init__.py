"""The commands: the only place that reads arguments."""
