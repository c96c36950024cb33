"""Rectified flow: time runs from 1 (noise) to 0 (data), and the velocity is noise minus data."""
