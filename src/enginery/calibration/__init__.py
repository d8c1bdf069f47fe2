"""Calibration: the ranges of activations that an int8 engine rests on.

`cache` reads and writes TensorRT's text format and imports nothing heavy; `compute` finds the
ranges by running a model over real data, which `feeds` reads.
"""
