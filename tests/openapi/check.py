"""Validates an OpenAPI document from stdin, and every example in it against its schema. Prints how many."""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

document = json.load(sys.stdin)
validate(document)
registry = Registry().with_resource("doc:", Resource(contents=document, specification=DRAFT202012))


def absolute(schema):
    if isinstance(schema, dict):
        return {
            name: "doc:" + value if name == "$ref" and isinstance(value, str) else absolute(value)
            for name, value in schema.items()
        }
    return [absolute(item) for item in schema] if isinstance(schema, list) else schema


def check(schema, example, where):
    errors = list(Draft202012Validator(absolute(schema), registry=registry).iter_errors(example))
    if errors:
        sys.exit(f"{where}: {errors[0].message}: {json.dumps(example)}")
    return 1


def walk(node, where):
    """Every object that has a schema beside its examples, and every schema that has one in it."""
    count = 0
    if isinstance(node, list):
        return sum(walk(item, f"{where}[{index}]") for index, item in enumerate(node))
    if not isinstance(node, dict):
        return 0
    schema = node["schema"] if "schema" in node else node
    if "example" in node:
        count += check({k: v for k, v in schema.items() if k != "example"}, node["example"], where)
    if isinstance(node.get("examples"), dict) and "schema" in node:
        count += sum(check(schema, e["value"], f"{where}/{n}") for n, e in node["examples"].items())
    return count + sum(walk(v, f"{where}/{k}") for k, v in node.items() if k not in ("example", "examples"))


print(walk(document, "#"))
