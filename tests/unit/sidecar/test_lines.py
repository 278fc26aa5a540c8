"""Lines out of a stream: whole ones, long ones, and those that never end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from samovar import wire

from sidecar import envelope, lines
from sidecar.envelope import WHOLE, Request
from sidecar.errors import Refused


def read(*pieces: bytes, end: bool = True) -> list[Request]:
    async def main() -> list[Request]:
        reader = asyncio.StreamReader(2**26)
        for piece in pieces:
            reader.feed_data(piece)
        if end:
            reader.feed_eof()
        large = lines.Large(asyncio.Semaphore(8))
        found = []
        async for request in lines.Lines(reader, lines.Allowance(), large, b""):
            found.append(request)
            if request.large:
                large.release()
        return found

    # with a deadline in the loop itself: what goes on for ever in a thread can't be ended
    return asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("size", [10, WHOLE - 200, WHOLE + 200, 10_000_000])
@pytest.mark.parametrize("piece", [100_000, 2**30])
def test_a_value_comes_through_as_it_was(size: int, piece: int) -> None:
    value = json.dumps({"text": "é\\\n" + "x" * size, "list": [1, {}]}, ensure_ascii=False).encode()
    line = b'{"id":3,"type":"checkpoint.put","attempt":"a","key":"k\xc3\xa9","value": ' + value + b" }\n"
    data = line + b'\n{"id":4,"type":"ready"}\n'
    first, second = read(*(data[n : n + piece] for n in range(0, len(data), piece)))
    assert (first.id, first.kind, first.get("key"), first.problem) == (3, "checkpoint.put", "ké", None)
    assert b"".join(first.raw("value")).strip() == value
    assert (second.id, second.kind) == (4, "ready")


def test_of_a_line_too_long_for_its_type_the_rest_is_passed_over() -> None:
    head = b'{"id":3,"type":"checkpoint.put","attempt":"a","key":"k","value":"'
    first, second = read(head + b"x" * 12_000_000 + b'"}\n{"id":4,"type":"ready"}\n')
    assert first.problem is not None
    assert (first.id, first.problem.code, first.raw("value")) == (3, "too_large", [b"null"])
    assert second.id == 4


def test_a_line_that_does_not_end_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PATIENCE", 0.05)
    with pytest.raises(wire.ProtocolError, match="did not end"):
        read(b'{"id":1,"type":"log","lines":[', end=False)


def test_between_two_lines_there_is_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PATIENCE", 0.01)

    async def main() -> list[Any]:
        reader = asyncio.StreamReader()
        asyncio.get_running_loop().call_later(0.1, reader.feed_data, b'{"id":1,"type":"x"}\n')
        asyncio.get_running_loop().call_later(0.1, reader.feed_eof)
        found = lines.Lines(reader, lines.Allowance(), lines.Large(asyncio.Semaphore(1)), b"")
        return [request.id async for request in found]

    assert asyncio.run(main()) == [1]


def test_a_list_of_objects_is_read_one_by_one() -> None:
    one, two = b'{"a":"}{\\"]","b":1}', b'{"a":"x"}'
    assert list(envelope.objects([b"[ " + one + b" ,", two + b"]"], 100)) == [one, two]
    assert list(envelope.objects([b"[]"], 100)) == list(envelope.objects([b"null"], 100)) == []
    for wrong in (b"{}", b"[1]", b"[{}", b'[{"a":{}}]', b"[{},]", b'[{"a":"' + b"x" * 200 + b'"}]', b"[{}]]"):
        with pytest.raises(Refused):
            list(envelope.objects([wrong], 100))
