"""Models that are trained and used on episodes."""
