"""Values that cross a boundary: their JSON form, and what an annotation accepts."""
