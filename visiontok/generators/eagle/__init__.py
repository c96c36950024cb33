"""EAGLE's drafters, as LANTERN trains them for image generators."""
