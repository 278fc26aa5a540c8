"""The last layer of a project's image: the SDK, the code, the manifest, and the task index read inside it."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import samovar.wire
from cachetools import LRUCache
from pydantic import ValidationError
from samovar.wire import IMAGE_CODE, IMAGE_ENVIRONMENT, IMAGE_MANIFEST, IMAGE_SDK, TASK_UID

from coordinator.wire import Problem
from images import names
from images.archive import ImageConfig, Packed
from images.box import Box, Outcome
from images.config import Config
from images.errors import IndexError_, InstallError
from images.known import unpacked
from images.source import Layer, code_files, fingerprint
from images.workshop import HOME, Workshop, identifier_of

_PYTHON = f"{IMAGE_ENVIRONMENT}/bin/python"
#: Process 1 of a container. No site: a dependency's .pth files are code, and must not run in it.
ENTRYPOINT = [_PYTHON, "-I", "-S", f"{IMAGE_SDK}/samovar/harness/boot.py"]

#: The variables of a container that reaches what the usual one does; nothing answers while the tasks are read.
_EGRESS = {samovar.wire.EGRESS_VARIABLE: json.dumps({"proxy": samovar.wire.EGRESS_PROXY, "relays": []})}

_TASK_USER = f"{TASK_UID}:{TASK_UID}"
#: Where byte code is written to, as if it were a root of its own.
COMPILED = "/opt/samovar/compiled"
#: Characters of the task index: what is parsed takes some twenty times as much memory.
_LARGEST_INDEX = 4 * 1024**2
#: Bytes that byte code may have beside four times those of its sources.
_LEAST_COMPILED = 16 * 1024**2

#: The modules of a start in one file (sdk/samovar/harness/bundle.py).
_BUNDLE = f"{IMAGE_SDK}/samovar/harness/bundle"
#: What compiles, of the image that the environment was made in: nothing that the project installed is there.
_COMPILE = ["python3", "-I", "-S", "-c", Path(__file__).with_name("compile_code.py").read_text("utf-8")]
_COMPILE += [COMPILED, f"{IMAGE_SDK}/samovar"]

#: The SDK as some base compiled it, so that a change of code compiles the code alone.
_compiled_sdk: LRUCache[str, list[tuple[str, bytes]]] = LRUCache(maxsize=16)
_compiled_lock = threading.Lock()


def with_code(
    shop: Workshop,
    dependencies: str,
    config: Config,
    source: Path,
    imports: dict[str, bytes],
    left_out: list[str],
    python: str,
) -> tuple[str, bool]:
    """The finished image: `dependencies` with the SDK, the code below `source` and the manifest.

    `imports` are files of the environment that make the code known in it, by their path there; `left_out` are
    directories of the source that are installed, and so not part of the code; `python` is the image below whatever
    the project installed. Gives its name, and whether it was made now.
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
    with tempfile.TemporaryFile() as stream:
        layer = Layer(stream)
        layer.tree(IMAGE_CODE.lstrip("/"), source, code)
        _add_sdk(layer, sdk, sdk_files)
        python_id = identifier_of(shop, python)
        sdk_key = names.digest([python_id, *_COMPILE, *fingerprint(sdk, sdk_files)])
        compiled_sdk = _sdk_known(shop, sdk_key)
        trees = [(IMAGE_CODE, source, code)]
        if compiled_sdk is None:
            trees.append((f"{IMAGE_SDK}/samovar", sdk, sdk_files))
        made = _compiled(shop, python_id, trees)
        if compiled_sdk is None:
            compiled_sdk = [file for file in made if file[0].startswith(f"{IMAGE_SDK.lstrip('/')}/")]
            # the bundle is the last that is written: one that was ended before it is asked anew next time
            if any(name == _BUNDLE.lstrip("/") for name, _ in compiled_sdk):
                _keep_sdk(shop, sdk_key, compiled_sdk)
        code_prefix = f"{IMAGE_CODE.lstrip('/')}/"
        for name, data in [*compiled_sdk, *(file for file in made if file[0].startswith(code_prefix))]:
            layer.file(name, data)
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
        shop.builder.append(identifier, [Packed.of(stream)], image, image_config)
    return image, True


def _sdk_known(shop: Workshop, key: str) -> list[tuple[str, bytes]] | None:
    """The SDK's byte code, where it was compiled before, by this process or an earlier one."""
    with _compiled_lock:
        compiled = _compiled_sdk.get(key)
    if compiled is None and (kept := shop.known.get("sdk", key)) is not None:
        compiled = [(entry.name, data) for entry, data in unpacked(kept)]
        with _compiled_lock:
            _compiled_sdk[key] = compiled
    return compiled


def _keep_sdk(shop: Workshop, key: str, compiled: list[tuple[str, bytes]]) -> None:
    stream = io.BytesIO()
    layer = Layer(stream)
    for name, data in compiled:
        layer.file(name, data)
    layer.close()
    shop.known.put(stream.getvalue(), "sdk", key)
    with _compiled_lock:
        _compiled_sdk[key] = compiled


def _compiled(shop: Workshop, python: str, trees: list[tuple[str, Path, list[Path]]]) -> list[tuple[str, bytes]]:
    """The byte code of `trees`, each where it will lie, its root and its files: files by their names in an image.

    Compiled by a user without rights, in an image of which nothing is the project's; what comes out is taken for no
    more than it may be, a file of byte code for a file of source each, and a bundle with the SDK.
    """
    sources = {
        f"{where}/{path.relative_to(root).as_posix()}"
        for where, root, paths in trees
        for path in paths
        if path.suffix == ".py" and path.is_file()
    }
    if not sources:
        return []
    with tempfile.TemporaryFile() as stream:
        layer = Layer(stream)
        for where, root, paths in trees:
            layer.tree(where.lstrip("/"), root, paths)
        layer.directory(COMPILED.lstrip("/"), uid=TASK_UID)
        layer.close()
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        most = 4 * size + _LEAST_COMPILED
        box = Box(
            image=python,
            command=[*_COMPILE, *(where for where, _, _ in trees)],
            labels=shop.labels("builder"),
            memory=shop.settings.index_memory,
            pids=shop.settings.index_pids,
            timeout=shop.settings.index_timeout,
            user=_TASK_USER,
            tmpfs={"/tmp": "rw,nosuid,nodev,size=16m,nr_inodes=1k,mode=1777"},
            seccomp=shop.settings.seccomp,
            disk=most + size,
            files=sum(4 * len(paths) for _, _, paths in trees) + 1000,
            largest_file=most,
        )
        with shop.builder.container(box) as container:
            container.put(stream)
            container.run(stdout=lambda line: None, stderr=lambda line: None)
            with container.copy_out(COMPILED, most) as compiled, tarfile.open(fileobj=compiled, mode="r|") as tar:
                return list(byte_code(tar, sources))


def byte_code(tar: tarfile.TarFile, sources: set[str]) -> Iterator[tuple[str, bytes]]:
    """Of an archive of COMPILED, the regular files that are the byte code of one of `sources`, by name; and the
    bundle where the SDK is among them.
    """
    prefix = COMPILED.rpartition("/")[2]
    seen: set[str] = set()
    for member in tar:
        path = PurePosixPath(member.name)
        if member.isreg() and path == PurePosixPath(prefix, "bundle") and f"{_BUNDLE}.py" in sources:
            content = tar.extractfile(member)
            if content is not None and _BUNDLE not in seen:
                seen.add(_BUNDLE)
                yield _BUNDLE.lstrip("/"), content.read()
            continue
        if not member.isreg() or path.suffix != ".pyc" or path.parts[:1] != (prefix,) or ".." in path.parts:
            continue
        parent = PurePosixPath("/", *path.parts[1:-1])
        if str(parent / f"{path.name.split('.')[0]}.py") not in sources:
            continue
        name = f"{str(parent).lstrip('/')}/__pycache__/{path.name}"
        content = tar.extractfile(member)
        if content is not None and name not in seen:
            seen.add(name)
            yield name, content.read()


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
        output=settings.build_output,
        disk=None,
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
    if outcome.flooded:
        raise IndexError_(
            f"importing the project's modules printed more than {settings.build_output // 1024**2} MiB, and that "
            "was ended",
            code="index_output",
        )
    if outcome.out_of_memory:
        raise IndexError_(
            f"importing the project's modules needed more than {settings.index_memory // 1024**2} MiB; load large "
            "data inside a task, or ask the operator for more (index_memory)",
            code="index_out_of_memory",
        )
    if len(last) > _LARGEST_INDEX:
        raise IndexError_(f"the task index is larger than {_LARGEST_INDEX // 1024**2} MiB, which no tasks need")
    try:
        index = json.loads(last)
        if outcome.exit_code == 0 and isinstance(index, dict) and isinstance(index.get("tasks"), list):
            notices = index.pop("notices", [])
            for notice in notices if isinstance(notices, list) else []:
                shop.log(f"notice: {notice!s:.4000}")
            return index
        problem = Problem.model_validate(index["error"])
    except (ValueError, TypeError, KeyError, RecursionError, ValidationError):
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
