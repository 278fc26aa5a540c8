"""The process that a project's modules are imported in: made alike for the index, the zygote and a run."""
