"""Which table does docs/reliability.md hold? Markdown, from soak/results.

python -m soak.report            prints it
python -m soak.report --write    puts it between the marks of docs/reliability.md
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from soak.__main__ import RESULTS, SCENARIOS

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- python -m soak.report --write -->\n", "<!-- end of the table -->\n"


def results() -> Iterator[dict[str, Any]]:
    for name in SCENARIOS:
        file = RESULTS / f"{name}.json"
        if file.exists():
            yield json.loads(file.read_text())


def table(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    for result in found:
        verdict = "holds" if result["holds"] else "**does not hold**"
        moment = ", short" if result["short"] else ""
        yield f"### {_begun(result['name'])}: {verdict}"
        yield f"{_begun(result['method'])}. {result['seconds']:.0f} s{moment}.\n"
        yield "| check | measured | bound | |"
        yield "|---|---|---|---|"
        for check in result["checks"]:
            cells = (check["what"], check["measured"], check["bound"], "" if check["holds"] else "**missed**")
            yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
        figures = "; ".join(f"{name} {value}" for name, value in result["figures"].items())
        yield f"\nFigures: {figures}.\n" if figures else ""
        yield from (f"Lost, as documented: {loss}.\n" for loss in result["losses"])


def _begun(text: str) -> str:
    """As the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into docs/reliability.md")
    asked = parser.parse_args()
    found = list(results())
    if not found:
        print("soak: there are no results; make soak makes them", file=sys.stderr)
        return 2
    machine = found[-1]["machine"]
    loads = sorted(float(result["machine"]["load before"]) for result in found)
    where = (
        f"On {machine['cores']} cores ({machine['processor']}), Python {machine['python']}; the load of the machine "
    )
    where += f"before each scenario: {loads[0]:g} to {loads[-1]:g}.\n"
    text = "\n".join([where, *table(found)])
    if not asked.write:
        print(text)
        return 0
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{text}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
