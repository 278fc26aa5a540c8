"""What the coordinator holds against clients."""

from __future__ import annotations

from tests.security.mutant import Mutant

_SCHEMAS = "tests/unit/coordinator/tasks/test_hostile_schemas.py"

_BUDGETS = "tests/unit/coordinator/api/test_budgets.py"

_CONNECTIONS = "tests/security/test_clients_connections.py"
_AUDIT = "tests/security/test_clients_audit.py"
_HOSTS = "tests/security/test_clients_hosts.py"
_REQUESTS = "tests/security/test_clients_requests.py"

MUTANTS: list[Mutant] = [
    Mutant(
        name="patterns_backtrack",
        off="the weighing of patterns",
        file="coordinator/tasks/patterns.py",
        old="        if sum(totals) > HEAVIEST:",
        new="        if False:",
        tests=(_SCHEMAS,),
    ),
    Mutant(
        name="any_vocabulary",
        off="the refusal of words that the SDK never writes",
        file="coordinator/tasks/vocabulary.py",
        old="        elif (holds := _WORDS.get(word)) is None:",
        new="        elif (holds := _WORDS.get(word, lambda value: True)) is None:",
        tests=(_SCHEMAS,),
    ),
    Mutant(
        name="checks_in_transactions",
        off="that long checks wait for the end of the transaction",
        file="coordinator/foundation/again.py",
        old="    if inside():",
        new="    if False:",
        tests=(_SCHEMAS,),
    ),
    Mutant(
        name="bodies_uncounted",
        off="the count of a body's values",
        file="coordinator/foundation/limits.py",
        old="MAX_BODY_NODES = 500_000",
        new="MAX_BODY_NODES = 500_000_000",
        tests=(_BUDGETS,),
    ),
    Mutant(
        name="lines_without_a_share",
        off="the share of one line of the database's threads",
        file="coordinator/foundation/turns.py",
        old="if line != OWN and self._busy.get(line, 0) < self._share:",
        new="if line != OWN:",
        tests=(_BUDGETS,),
    ),
    Mutant(
        name="polls_uncapped",
        off="the cap of a key's long polls",
        file="coordinator/api/budgets.py",
        old="if poll and flying.polls >= limits.polls:",
        new="if False:",
        tests=(_BUDGETS,),
    ),
    Mutant(
        name="times_unclamped",
        off="the bounds of a time that is shown",
        file="coordinator/runs/views.py",
        old="seconds = seconds if 0 <= seconds <= MAX_MOMENT else 0 if seconds < 0 else MAX_MOMENT",
        new="pass",
        tests=("tests/unit/coordinator/test_wire_bounds.py",),
    ),
    Mutant(
        name="headers_unbounded",
        off="the size of headers",
        file="coordinator/connections.py",
        old="MAX_HEADER_BYTES = 32 * 1024",
        new="MAX_HEADER_BYTES = 32 * 1024**3",
        tests=(_CONNECTIONS,),
    ),
    Mutant(
        name="silence_without_end",
        off="the deadline of the first byte",
        file="coordinator/connections.py",
        old="        self._arm(FIRST_BYTE)\n\n    def connection_lost",
        new="\n    def connection_lost",
        tests=(_CONNECTIONS,),
    ),
    Mutant(
        name="large_bodies_are_read",
        off="the refusal of a body by its stated length",
        file="coordinator/api/gate.py",
        old="        if stated > most:",
        new="        if False:",
        tests=(_CONNECTIONS,),
    ),
    Mutant(
        name="polls_outlive_keys",
        off="that a wait asks whether its caller may still wait",
        file="coordinator/api/polling.py",
        old='    if "key" in state and',
        new="    if False and",
        tests=(_REQUESTS,),
    ),
    Mutant(
        name="hints_of_others",
        off="that hints name only what the caller sees",
        file="coordinator/foundation/sight.py",
        old='return seen is None or name in ("", seen)',
        new="return True",
        tests=(_REQUESTS,),
    ),
    Mutant(
        name="short_secrets",
        off="the least length of a webhook's secret",
        file="coordinator/access/signatures.py",
        old="SHORTEST_KEY = 8",
        new="SHORTEST_KEY = 0",
        tests=(_REQUESTS,),
    ),
    Mutant(
        name="runners_keys_unbound",
        off="that a runner's key acts as its own runner alone",
        file="coordinator/api/gate.py",
        old="            elif caller.runner != name:",
        new="            elif False:",
        tests=(_HOSTS,),
    ),
    Mutant(
        name="shared_key_for_all",
        off="that the shared key does not act for a runner with a key of its own",
        file="coordinator/access/hosts.py",
        old="    if any(revoked is None for revoked in states):",
        new="    if False:",
        tests=(_HOSTS,),
    ),
    Mutant(
        name="attempts_of_others",
        off="that a runner gives up its own attempts alone",
        file="coordinator/access/hosts.py",
        old="    if owner is None or owner == caller.runner:",
        new="    if True:",
        tests=(_HOSTS,),
    ),
    Mutant(
        name="tokens_for_ever",
        off="that a host's token works once",
        file="coordinator/access/hosts.py",
        old="& host_tokens.c.used_at.is_(None)",
        new="",
        tests=(_HOSTS,),
    ),
    Mutant(
        name="tokens_take_over",
        off="that a host's token takes no runner over that is alive",
        file="coordinator/access/hosts.py",
        old="seen > now - RUNNER_ALIVE:",
        new="False:",
        tests=(_HOSTS,),
    ),
    Mutant(
        name="revoked_hosts_hold",
        off="that a revoked host's attempts are nobody's at once",
        file="coordinator/access/keys.py",
        old="        conn.execute(update(attempts).where(held).values(lease_until=now))\n",
        new="",
        tests=(_HOSTS,),
    ),
    Mutant(
        name="open_to_networks",
        off="the refusal to listen beyond loopback without TLS",
        file="coordinator/listening.py",
        old="    if not (settings.behind_proxy",
        new="    if False and not (settings.behind_proxy",
        tests=(_HOSTS,),
    ),
    Mutant(
        name="audit_of_everyone",
        off="that a key sees its project's audit alone",
        file="coordinator/access/audit.py",
        old="    if wanted.project is not None:",
        new="    if False:",
        tests=(_AUDIT,),
    ),
    Mutant(
        name="audit_apart",
        off="that what is done is noted with it",
        file="coordinator/access/audit.py",
        old="            self._note(conn, now, known, result)\n",
        new="",
        tests=(_AUDIT,),
    ),
    Mutant(
        name="refusals_without_number",
        off="how many refusals of a key are noted",
        file="coordinator/access/audit.py",
        old="        return over if count < _REFUSALS else None",
        new="        return over",
        tests=(_AUDIT,),
    ),
    Mutant(
        name="audit_uncut",
        off="the length of names in the audit",
        file="coordinator/access/audit.py",
        old='return text if len(text) <= most else text[: most - 1] + "…"',
        new="return value",
        tests=(_AUDIT,),
    ),
]
