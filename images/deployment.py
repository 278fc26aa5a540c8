"""The last layer of a project's image: the SDK, the code, the manifest, and the task index read inside it."""

from __future__ import annotations

import io
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import samovar.wire
from cachetools import LRUCache
from pydantic import ValidationError
from samovar.wire import IMAGE_CODE, IMAGE_ENVIRONMENT, IMAGE_MANIFEST, IMAGE_SDK, TASK_UID

from coordinator.wire import Problem
from images import names
from images.archive import ImageConfig, take_tree
from images.box import Box, Outcome
from images.config import Config
from images.errors import IndexError_, InstallError
from images.layers import HOME, Workshop
from images.source import Layer, code_files, fingerprint

_PYTHON = f"{IMAGE_ENVIRONMENT}/bin/python"
#: Process 1 of a container. No site: a dependency's .pth files are code, and must not run in it.
ENTRYPOINT = [_PYTHON, "-I", "-S", f"{IMAGE_SDK}/samovar/harness/boot.py"]

#: The variables of a container that reaches what the usual one does; nothing answers while the tasks are read.
_EGRESS = {samovar.wire.EGRESS_VARIABLE: json.dumps({"proxy": samovar.wire.EGRESS_PROXY, "relays": []})}

_TASK_USER = f"{TASK_UID}:{TASK_UID}"
#: Byte code that is never checked against its source: nothing in a finished image changes.
_COMPILE = [_PYTHON, "-I", "-S", "-m", "compileall", "-q", "-q", "--invalidation-mode", "unchecked-hash"]

#: The SDK as some images compiled it, so that a change of code compiles the code alone. By dependencies image, and
#: so by project: what one project's Python has made never gets into another's image.
_compiled_sdk: LRUCache[str, bytes] = LRUCache(maxsize=16)
_compiled_lock = threading.Lock()


def with_code(
    shop: Workshop, dependencies: str, config: Config, source: Path, imports: dict[str, bytes], left_out: list[str]
) -> tuple[str, bool]:
    """The finished image: `dependencies` with the SDK, the code below `source` and the manifest.

    `imports` are files of the environment that make the code known in it, by their path there; `left_out` are
    directories of the source that are installed, and so not part of the code. Gives its name, and whether it was
    made now.
    """
    identifier = shop.builder.image_id(dependencies)
    if identifier is None:
        raise InstallError(f"the image {dependencies} has gone while it was being built on; deploy again")
    sdk = sdk_root()
    sdk_files = [path for path in code_files(sdk) if path.relative_to(sdk).parts[0] != "cli"]
    installed = [source / name for name in left_out]
    code = [path for path in code_files(source) if not any(path.is_relative_to(own) for own in installed)]
    manifest = manifest_of(config)
    parts: list[str | bytes] = [
        identifier,
        *fingerprint(sdk, sdk_files),
        b"code",
        *fingerprint(source, code),
        manifest,
        *(part for name, data in sorted(imports.items()) for part in (name, data)),
    ]
    image = names.image_name(shop.project, "deployment", parts)
    if shop.builder.image_id(image) is not None:
        shop.log(f"the code is as before ({image})")
        return image, False
    shop.log(f"adding the code: {sum(1 for path in code if path.is_file())} files")
    sdk_key = names.digest([identifier, *fingerprint(sdk, sdk_files)])
    with _compiled_lock:
        compiled_sdk = _compiled_sdk.get(sdk_key)
    box = Box(
        image=identifier,
        command=[*_COMPILE, *([f"{IMAGE_SDK}/samovar"] if compiled_sdk is None else []), IMAGE_CODE],
        labels=shop.labels("builder"),
        memory=shop.settings.index_memory,
        pids=shop.settings.index_pids,
        timeout=shop.settings.index_timeout,
        # root owns the code, so that no task of a later engine could change it; it has no capability
        user="0:0",
        tmpfs={"/tmp": "rw,nosuid,nodev,size=16m,mode=1777"},
    )
    with tempfile.TemporaryFile() as stream:
        layer = Layer(stream)
        layer.tree(IMAGE_CODE.lstrip("/"), source, code)
        if compiled_sdk is None:
            _add_sdk(layer, sdk, sdk_files)
        with shop.builder.container(box) as container:
            with layer.so_far() as files:
                container.put(files)
            # a file that does not compile is only an error where it is imported, and the index says so then
            outcome = container.run(stdout=lambda line: None, stderr=lambda line: None)
            if compiled_sdk is None:
                with container.copy_out(IMAGE_SDK) as copied:
                    compiled_sdk = copied.read()
                if outcome.exit_code in (0, 1):  # 1: some file is no Python; anything else: it was cut short
                    with _compiled_lock:
                        _compiled_sdk[sdk_key] = compiled_sdk
            else:
                _add_sdk(layer, sdk, sdk_files)
            with container.copy_out(IMAGE_CODE) as compiled:
                take_tree(compiled, layer.tar, target=IMAGE_CODE.lstrip("/"), only=".pyc")
        take_tree(io.BytesIO(compiled_sdk), layer.tar, target=IMAGE_SDK.lstrip("/"), only=".pyc")
        layer.file(IMAGE_MANIFEST.lstrip("/"), manifest)
        for name, data in sorted(imports.items()):
            layer.file(f"{IMAGE_ENVIRONMENT.lstrip('/')}/{name}", data)
        layer.close()
        image_config = ImageConfig(
            shop.image_labels("deployment"),
            _environment(shop.builder.environment_of(dependencies)),
            entrypoint=ENTRYPOINT,
            user=_TASK_USER,
            directory=IMAGE_CODE,
        )
        shop.builder.append(identifier, stream, image, image_config)
    return image, True


def read_index(shop: Workshop, image: str) -> dict[str, Any]:
    """The task index, read by importing the project's modules inside `image`, under the limits of a run.

    Raises IndexError_ with what was wrong: the project's own error, or a limit that was passed.
    """
    settings = shop.settings
    shop.log("reading the tasks")
    # as the container of a run is: what works in one of them works in the other
    scratch = f"rw,exec,nosuid,nodev,size={settings.index_memory // 2},nr_inodes=50k,mode=1777"
    box = Box(
        image=image,
        command=[_PYTHON, "-I", f"{IMAGE_SDK}/samovar/index.py", "--manifest", IMAGE_MANIFEST],
        labels=shop.labels("index"),
        memory=settings.index_memory,
        pids=settings.index_pids,
        timeout=settings.index_timeout,
        user=_TASK_USER,
        read_only=True,
        tmpfs={"/tmp": scratch, HOME: f"{scratch},uid={TASK_UID},gid={TASK_UID}", "/dev/shm": scratch},
        seccomp=settings.seccomp,
        directory=IMAGE_CODE,
        environment={"HOME": HOME, "TMPDIR": "/tmp", "LANG": "C.UTF-8", "SAMOVAR_CPUS": "1", **_EGRESS},
        hostname="task",
    )
    last = ""
    tail: list[str] = []

    def keep(line: str) -> None:
        nonlocal last
        last = line or last

    def tell(line: str) -> None:
        if len(tail) < 1000:
            tail.append(line[:4000])
            shop.log(line[:4000])

    with shop.builder.container(box) as container:
        outcome = container.run(stdout=keep, stderr=tell)
    return _index(last, outcome, tail, shop)


def _index(last: str, outcome: Outcome, tail: list[str], shop: Workshop) -> dict[str, Any]:
    settings = shop.settings
    if outcome.timed_out:
        raise IndexError_(
            f"importing the project's modules took longer than {settings.index_timeout:g} s and was ended; "
            "work at the top of a module belongs into a task",
            code="index_timeout",
        )
    if outcome.out_of_memory:
        raise IndexError_(
            f"importing the project's modules needed more than {settings.index_memory // 1024**2} MiB; load large "
            "data inside a task, or ask the operator for more (index_memory)",
            code="index_out_of_memory",
        )
    try:
        index = json.loads(last)
        if outcome.exit_code == 0 and isinstance(index, dict) and isinstance(index.get("tasks"), list):
            notices = index.pop("notices", [])
            for notice in notices if isinstance(notices, list) else []:
                shop.log(f"notice: {notice!s:.4000}")
            return index
        problem = Problem.model_validate(index["error"])
    except (ValueError, TypeError, KeyError, ValidationError):
        said = " / ".join(tail[-5:]) or "nothing"
        raise IndexError_(
            f"importing the project's modules ended the process (exit code {outcome.exit_code}) before "
            f"the tasks could be read; it said: {said}"
        ) from None
    raise IndexError_.from_problem(problem)


def _add_sdk(layer: Layer, sdk: Path, files: list[Path]) -> None:
    layer.tree(f"{IMAGE_SDK.lstrip('/')}/samovar", sdk, files)


def sdk_root() -> Path:
    """The directory of the SDK that is installed beside this part."""
    return Path(samovar.wire.__file__).parent


def manifest_of(config: Config) -> bytes:
    """The manifest that an image carries: what to import, and the options that tasks start from."""
    manifest = {"project": config.project.name, "modules": config.project.tasks, "defaults": config.defaults}
    manifest["env"] = config.env
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def _environment(base: list[str]) -> list[str]:
    variables = dict(item.split("=", 1) for item in base if "=" in item)
    path = variables.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    variables["PATH"] = f"{IMAGE_ENVIRONMENT}/bin:{path.removeprefix(f'{IMAGE_ENVIRONMENT}/bin:')}"
    variables["VIRTUAL_ENV"] = IMAGE_ENVIRONMENT
    variables["HOME"] = HOME
    variables.setdefault("LANG", "C.UTF-8")
    return [f"{name}={value}" for name, value in variables.items()]
