"""What does a template of deploy/ say, for given parameters? The intrinsic functions that ours use, and no others."""

import re
from pathlib import Path
from typing import Any

import cfnlint.decode

ROOT = Path(__file__).parents[2]
ABSENT = object()
PSEUDO = {
    "AWS::Region": "eu-central-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws", "AWS::NoValue": ABSENT,
}  # fmt: skip


class Template:
    """`attributes`: of resources, that only AWS knows, such as Store.ConfigurationEndPoint.Address."""

    def __init__(self, name: str, parameters: dict[str, str], attributes: dict[str, str] | None = None) -> None:
        self.raw, problems = cfnlint.decode.decode(str(ROOT / "deploy" / name))
        assert problems == []
        self._parameters = {
            each: str(declared["Default"]) for each, declared in self.raw["Parameters"].items() if "Default" in declared
        } | parameters
        self._attributes = attributes or {}

    def properties(self, resource: str) -> Any:
        return self.value(self.raw["Resources"][resource]["Properties"])

    def of_type(self, kind: str) -> dict[str, Any]:
        """Properties by name of all resources of a type."""
        return {
            name: self.properties(name) for name, made in self.raw["Resources"].items() if made["Type"] == kind
        }  # fmt: skip

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for each in node if (value := self.value(each)) is not ABSENT]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function == "Ref":
                return self._named(argument)
            if function.startswith("Fn::") or function == "Condition":
                return self._computed(function, argument)
        return {name: value for name, each in node.items() if (value := self.value(each)) is not ABSENT}

    def _computed(self, function: str, argument: Any) -> Any:
        match function:
            case "Fn::If":
                return self.value(argument[1] if self._holds(argument[0]) else argument[2])
            case "Fn::Sub":
                return re.sub(r"\$\{([^}]+)\}", lambda found: str(self._named(found[1])), argument)
            case "Fn::GetAtt":
                name = ".".join(argument)
                return self._attributes.get(name, name)
            case "Fn::Equals":
                return self.value(argument[0]) == self.value(argument[1])
            case "Fn::Not":
                return not self.value(argument[0])
            case "Condition":
                return self._holds(argument)
        raise AssertionError(f"{function}: not known to these tests; add it")

    def _holds(self, condition: str) -> bool:
        return bool(self.value(self.raw["Conditions"][condition]))

    def _named(self, name: str) -> Any:
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self._parameters:
            return self._parameters[name]
        return self._attributes.get(name, name)  # a resource, by its name
