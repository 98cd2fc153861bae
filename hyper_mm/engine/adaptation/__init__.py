"""Adaptation of a trained model to a site by a handful of labeled images; see tools/adapt.py."""
