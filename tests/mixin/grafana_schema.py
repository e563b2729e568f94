"""Reads dashboards and alert rules through Grafana's published models, and tells what they do not know.

grafana_schema.py DASHBOARD.json... ALERTS.json (the provisioning file's groups, as JSON)

The models drop what they have no field for, so what is not there after a round trip is a key that Grafana does not
know, or one that stands in the wrong place. Exits with 1 and a line for each.
"""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import alerting, dashboard

# Prometheus's own fields of an annotation, which its plugin reads and the common model leaves out.
OF_THE_PLUGIN = ("step", "textFormat", "titleFormat")


def lost(before, after, at=""):
    """Paths of `before` whose value is not in `after`."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{at}.{key}")
            # The encoder leaves out what says nothing.
            elif value not in (None, [], {}, "", False) and not (".annotations." in at and key in OF_THE_PLUGIN):
                yield f"{at}.{key}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{at}[{index}]")
    elif before != after:
        yield f"{at}: {before!r} became {after!r}"


def round_trip(model, value):
    return json.loads(JSONEncoder().encode(model.from_json(value)))


def main():
    register_default_plugins()
    *dashboards, alerts = sys.argv[1:]
    found = []
    panels = 0
    for path in dashboards:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
        panels += len(value["panels"])
        found += [f"{path} {what}" for what in lost(value, round_trip(dashboard.Dashboard, value))]
    with open(alerts, encoding="utf-8") as file:
        groups = json.load(file)["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    for rule in rules:
        found += [f"{rule['uid']} {what}" for what in lost(rule, round_trip(alerting.Rule, rule))]
    print("\n".join(found) or f"{len(dashboards)} dashboards, {panels} panels, {len(rules)} rules")
    sys.exit(1 if found else 0)


main()
