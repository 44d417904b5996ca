"""Kernel-made ext3 images with their truth; the parts of scripts/make-image.

From the bottom up: `system` (what Linux offers: loop devices, mounts, ioctls), `layout` (a reader of ext3 that owes
nothing to undelfs), `disk` (one image while it is being made), `recorder` (every loss and its record), `truth` (the files
written beside an image), `builder` (what a case works with, and its claims), `cases_*` and `history` (the cases).
"""
