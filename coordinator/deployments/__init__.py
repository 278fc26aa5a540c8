"""Versions of a project: uploads, builds, what changed between them, images, promotion and rollback.
Promises that a version never changes once it is ready, and that runs keep theirs.
The API, the runners that build, and retention.
"""
