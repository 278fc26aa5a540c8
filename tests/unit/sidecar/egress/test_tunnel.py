"""Bytes through a tunnel: whole and in order, by pipes and without, to readers of any speed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from pathlib import Path

import pytest

from sidecar.egress import pipes
from sidecar.egress.pipes import Pipes
from tests.unit.sidecar.egress.world import world

API = "api.example.com:443"
MIB = 1024 * 1024


def descriptors() -> int:
    return len(os.listdir(Path("/proc/self/fd")))


async def through(size: int, readers: int, *, splice: bool = True) -> None:
    """`readers` at once get `size` bytes each, in pieces as they like, and say them back."""
    data = random.Random(size).randbytes(size)
    whole = hashlib.sha256(data).hexdigest()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        got = hashlib.sha256(await reader.readexactly(size))
        writer.write(got.hexdigest().encode())
        writer.write_eof()

    async with world() as w:
        before = descriptors()
        await w.serve(serve, 443, name="api.example.com")
        await w.listen(mode="public")
        await w.open()
        if not splice:
            w.server.net.pipes.take = lambda owner: None  # type: ignore[method-assign]

        async def read(seed: int) -> None:
            source, got, left = random.Random(seed), hashlib.sha256(), size
            client = await w.tunnel(API)
            while left:
                piece = await client.reader.readexactly(min(left, source.choice([1, 1000, 70_000, 500_000])))
                client.writer.write(piece)
                got.update(piece)
                left -= len(piece)
                if source.random() < 0.05:
                    await asyncio.sleep(0)
            assert got.hexdigest() == whole
            client.writer.write_eof()
            assert await client.reader.read() == whole.encode()
            client.writer.close()

        await asyncio.gather(*map(read, range(readers)))
        await w.close()
        assert (w.counts()[API].received, w.counts()[API].sent) == (readers * (size + 64), readers * size)
        assert w.server.net.memory.used == 0
        # a few idle pipes stay, and what listens
        assert descriptors() <= before + 2 * 4 + 3


@pytest.mark.parametrize("splice", [True, False])
@pytest.mark.parametrize(("size", "readers"), [(0, 1), (1, 1), (5 * MIB, 1), (MIB, 12)])
def test_bytes_come_whole_and_in_order(size: int, readers: int, splice: bool) -> None:
    asyncio.run(through(size, readers, splice=splice))


def test_a_kernel_that_does_not_splice_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def splice(*arguments: object, **more: object) -> int:
        tried.append(arguments)
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "splice", splice)
    asyncio.run(through(MIB, 3))
    assert len(tried) == 3


def test_pipes_have_a_number_for_each_container_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "_MOST", 6)
    monkeypatch.setattr(pipes, "_OF_ONE", 4)
    before = descriptors()
    made = Pipes()
    first = [made.take("a") for _ in range(5)]
    assert [pipe is not None for pipe in first] == [True] * 4 + [False]
    second = [made.take("b") for _ in range(3)]
    assert [pipe is not None for pipe in second] == [True] * 2 + [False]
    for owner, lent in (("a", first), ("b", second)):
        for pipe in lent:
            if pipe is not None:
                os.write(pipe.writing, b"left")
                pipe.left = 4
                made.give(owner, pipe)
    # what has something in it is nobody else's
    assert descriptors() == before
    again = made.take("a")
    assert again is not None
    made.give("a", again)
    assert made.take("b") is again
    made.give("b", again)
    made.close()
    assert descriptors() == before
