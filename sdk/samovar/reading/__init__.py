"""What is read out of a project's source when it is indexed."""
