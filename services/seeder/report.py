"""What the seeder's commands print for a person, from the JSON that the daemon answers."""

from __future__ import annotations

from typing import Any

from libreseed.adapters.command.console import human_bytes
from libreseed.adapters.command.terminal import counted

__all__ = ["describe_added", "describe_list", "describe_scrub", "describe_status"]

Answer = dict[str, Any]


def describe_added(answer: Answer) -> str:
    """The result of ``add``."""
    if "index" in answer:
        return f"{answer['index']}: {'taken' if answer['added'] else 'held already, or older than what is held'}"
    verb = "added" if answer["added"] else "held already:"
    return f"{verb} {answer['release']} ({human_bytes(answer['size'])}), {_state(answer)}\n{answer['torrent']}"


def describe_list(answer: Answer) -> str:
    """The result of ``list``: one line per release."""
    lines = [
        f"{one['release']:32} {human_bytes(one.get('size', 0)):>9} {one['peers']:3} peers  {_state(one)}"
        for one in answer["releases"]
    ]
    return "\n".join(lines) or "nothing is seeded"


def describe_scrub(answer: Answer) -> str:
    """The result of ``scrub``."""
    lines = [f"{one['release']:32} {_state(one)}" for one in answer["releases"]]
    return "\n".join([*lines, f"{counted(answer['healed'], 'chunk')} healed"])


def describe_status(answer: Answer) -> str:
    """The result of ``status``."""
    releases, scrub, announce, store = (answer[key] for key in ("releases", "scrub", "announce", "store"))
    quota = f" of {human_bytes(store['max_bytes'])}" if store["max_bytes"] else ""
    lines = [
        f"libreseed-seeder {answer['version']}, process {answer['pid']}, up {answer['uptime']} s",
        f"state      {answer['state_dir']}, {human_bytes(store['used_bytes'])}{quota} used",
        f"swarm      {', '.join(answer['listen'])}; {counted(answer['peers'], 'peer')}, "
        f"up {human_bytes(answer['up_rate'])}/s, {human_bytes(answer['uploaded'])} since the start",
        f"dht        {', '.join(answer['dht']['listen'])}; {counted(answer['dht']['nodes'], 'node')}"
        + _company(answer["dht"]),
        "releases   "
        + ", ".join(f"{releases[key]} {key}" for key in ("total", "seeding", "checking", "damaged", "broken")),
        f"announce   {counted(announce['puts'], 'put')}, {announce['put_failures']} failed; "
        f"{announce['late_count']} overdue",
        f"scrub      {counted(scrub['releases_scrubbed'], 'release')}, "
        f"{counted(scrub['chunks_judged'], 'chunk')} judged, "
        f"{scrub['chunks_healed']} healed, {counted(scrub['beyond_repair'], 'release')} beyond repair",
    ]
    lines += [
        f"OVERDUE    {late['owner']}: {late['kind']} by {late['seconds']} s: {late['fault']}"
        for late in announce["late"][:10]
    ]
    return "\n".join(lines)


def _company(dht: Answer) -> str:
    if dht["alone"]:
        return ", no other is known yet: answers for its own records itself"
    return "" if dht["nodes"] else ": none has answered"


def _state(one: Answer) -> str:
    overdue = f", announcing is {one['lag']} s late" if one["lag"] else ""
    fault = f": {one['fault']}" if one["fault"] else ""
    return f"{one['state']}{fault}{overdue}"
