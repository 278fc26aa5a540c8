"""Taking images of old versions away, and what they were built on where nothing else is."""

from __future__ import annotations

from images.docker_builder import Builder
from images.locks import hold
from images.names import LABEL_KIND, LABEL_PROJECT

#: What a deployment's image is built on, the uppermost first.
_BELOW = ("libraries", "dependencies", "apt")


def remove_version(image: str) -> bool:
    """Take a deployment's image away, if it is there. False where a container needs it.

    The layers of packages below it go as well, once no deployment of the project is built on them.
    """
    with Builder() as builder:
        project = builder.labels_of(image).get(LABEL_PROJECT)
        if project is None:
            return True
        with hold(f"project-{project}"):
            if not builder.remove_image(image):
                return builder.image_id(image) is None
            for kind in _BELOW:
                there = builder.layers({LABEL_PROJECT: project})
                for name, (labels, layers) in there.items():
                    above = [other for key, (_, other) in there.items() if key != name]
                    if labels.get(LABEL_KIND) == kind and not any(o[: len(layers)] == layers for o in above):
                        builder.remove_image(name)
            return True
