"""A change of code alone, until the new version is current."""

from __future__ import annotations

import json
import time

import httpx
from samovar.cli.pack import pack

from bench.bed import Bed
from bench.figures import Outcome, Series, Target, rounds

LIMIT = 3.0
_SECONDS = 60.0


def redeploy(bed: Bed, count: int) -> Outcome:
    """`samovar deploy` and the API alone, against a docker build and a docker commit of the same files."""
    cli, api = Series("samovar deploy", "s"), Series("samovar: API alone", "s")
    build, commit = Series("docker build (FROM, COPY)", "s"), Series("create, copy in, docker commit", "s")
    for number in rounds(count, _SECONDS):
        bed.project.change()
        began = time.time()
        bed.samovar.deploy_path(bed.project.path)
        cli.add(time.time() - began)
        bed.project.change()
        build.add(bed.docker.build(bed.dependencies, bed.project.path, number))
        api.add(_by_api(bed))
        commit.add(bed.docker.commit(bed.dependencies, bed.project.path, number))
    return Outcome(
        "redeploy",
        "a code-only change until the new version is current",
        [cli, api],
        [build, commit],
        [Target("median of samovar deploy", cli.median, LIMIT, "s")],
    )


def _by_api(bed: Bed) -> float:
    credentials = json.loads((bed.samovar.data / "credentials.json").read_text())
    headers = {"Authorization": f"Bearer {credentials['api_key']}"}
    with httpx.Client(base_url=f"{credentials['url']}/api/v1", headers=headers, timeout=60) as client:
        began = time.time()
        answer = client.post("/deployments", content=pack(bed.project.path).data).raise_for_status()
        path = f"/deployments/{answer.json()['id']}"
        after = None
        while True:
            query = {"timeout": "30"} | ({"after": after} if after else {})
            page = client.get(f"{path}/log", params=query).raise_for_status().json()
            after = page["next"]
            if page["done"]:
                break
        status = client.get(path).raise_for_status().json()["status"]
        took = time.time() - began
    if status != "ready":
        raise RuntimeError(f"the deployment at {path} ended as {status}")
    return took
