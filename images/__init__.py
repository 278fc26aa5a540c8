"""Per-project images: what a project's tasks run in, built where nothing of the project can do harm.

A build takes a project's source and gives an image and the index of its tasks. No code of the project ever
runs on the host: dependencies are installed in a throw-away container with limits, and the tasks are read by
importing the modules inside the finished image. See docs/explanation/images.md.
"""
