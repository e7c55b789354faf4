"""The mathematics in plain torch: slow, readable, and the judge of every other backend."""
