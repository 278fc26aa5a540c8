"""What a run reaches, as far as process 1 and the runner have a part in it."""

from __future__ import annotations

from tests.security.mutant import Mutant

MUTANTS: list[Mutant] = [
    Mutant(
        name="relay_outlives_the_run",
        off="that the relay ends before what is left of a run is looked for",
        file="sdk/samovar/harness/egress.py",
        old="        self._bury()\n        self._tell = None",
        new="        self._tell = None",
        tests=("tests/unit/harness/test_egress.py",),
    ),
    Mutant(
        name="ways_out_between_runs",
        off="that between runs whatever connects is turned away",
        file="sdk/samovar/harness/egress.py",
        old="        if self._tell is None:\n            self._turn_away()\n        elif not self.relay:",
        new="        if not self.relay:",
        tests=("tests/unit/harness/test_egress.py",),
    ),
    Mutant(
        name="relay_keeps_descriptors",
        off="that the relay closes what process 1 has open",
        file="sdk/samovar/harness/relay.py",
        old="                os.close(int(name))",
        new="                pass",
        tests=("tests/unit/harness/test_egress.py::test_the_relay_has_nothing_of_process_one",),
    ),
    Mutant(
        name="addresses_without_the_operator",
        off="that an address in a list has to stand in the policy",
        file="runner/reach.py",
        old="        if item not in private:",
        new="        if False:",
        tests=("tests/unit/runner/test_reach.py",),
    ),
    Mutant(
        name="one_container_for_all_networks",
        off="that runs share a container only where they reach the same",
        file="runner/spec.py",
        old="network=reach.normal(limits.network)",
        new='network="public"',
        tests=("tests/unit/runner/test_reach.py",),
    ),
    Mutant(
        name="names_of_a_deployer_unread",
        off="the look at the items of a list, which a deployer's index has",
        file="runner/reach.py",
        old='    if found is None or int(found["port"]) > 65535:\n        return',
        new="    if found is None:\n        return None\n    if False:\n        return",
        tests=("tests/unit/runner/test_reach.py",),
    ),
    Mutant(
        name="a_sidecar_that_begins_anew_is_told_of_all",
        off="that a sidecar is told again what a container may reach",
        file="runner/reconcile.py",
        old="            egress=host.pool.egress(container),\n        )",
        new="        )",
        tests=("tests/unit/runner/test_reach.py",),
    ),
    Mutant(
        name="untrusted_code_reaches_the_public",
        off='that a task of trust="untrusted" reaches only hosts in a list',
        file="runner/policy.py",
        old='        if limits.network in ("open", "public"):',
        new="        if False:",
        tests=("tests/unit/runner/test_gvisor.py",),
    ),
]
