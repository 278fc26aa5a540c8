"""What a project needs, read from whatever says so: requirements files, pyproject.toml, lock files, libraries.

Promises: nothing is run and nothing written; what cannot be installed is refused with its file, line and remedy
before anything is built; what is left out is said. Called by `images.build`, and by what carries the plan out.
"""

from images.dependencies.plan import Answer, Plan, make_plan
from images.dependencies.target import Target
from images.dependencies.tree import Tree

__all__ = ["Answer", "Plan", "Target", "Tree", "make_plan"]
