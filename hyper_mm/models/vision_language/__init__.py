"""Models of images and texts; by name from :mod:`hyper_mm.models`."""
