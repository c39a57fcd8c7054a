"""The table of results: as text for the terminal, and as docs/conformance.md."""

from driver.cases import LARGE_BODY_BYTES


def cell(outcome):
    if outcome is None:
        return "not run"
    if outcome.result == "pass":
        return "pass"
    if outcome.result in ("unsupported", "client bug"):
        return outcome.detail
    return "**FAIL**"


def over_layouts(layouts, cases, clients, outcomes):
    """One outcome for each client and case: the first that is no pass, else the first."""
    merged = {}
    for client in clients:
        for case in cases:
            found = [outcomes.get((layout.name, client.name, case.name)) for layout in layouts]
            found = [outcome for outcome in found if outcome]
            if found:
                merged[client.name, case.name] = min(found, key=lambda one: one.result == "pass")
    return merged


def table(cases, clients, outcomes):
    """Rows are cases, columns are clients."""
    rows = [["Case", *(client.title for client in clients)]]
    for case in cases:
        rows.append([f"`{case.name}`",
                     *(cell(outcomes.get((client.name, case.name))) for client in clients)])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |"
             for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def document(layouts, cases, clients, outcomes):
    """docs/conformance.md."""
    packages = "\n".join(f"- {client.title}: {client.package}" for client in clients)
    promises = "\n".join(f"- `{case.name}`: {case.promise}." for case in cases)
    places = "\n".join(f"- {layout.title}" for layout in layouts)
    bodies = ", ".join(f"{client.title} {LARGE_BODY_BYTES[client.name]}" for client in clients)
    return f"""# Conformance of the official clients

Written by `tests/conformance/run --write`; do not edit. Every cell is a run of the
unmodified official client against real broker processes, once for each of these:

{places}

`make conformance` prints this table; its variable LAYOUTS says for which of these.

{packages}

{table(cases, clients, outcomes)}

`pass`: the promise below was kept each time. Any other text says what the client does not offer, or
names a fault of the client itself.

## What the cases promise

{promises}

Largest body tried, in bytes: {bodies}.

For `tls`, Java and Go run with their defaults, which trust every certificate; Python and
Node.js verify, and are told to trust the broker's self-made certificate by
`GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`. Python and Rust send the time of a delayed message in
whole seconds; the cases ask them for whole seconds only. Node.js takes priority 0 for none,
so it sends from 1 on.
"""
