"""`polylens benchmarks`."""

from rich.table import Table
from rich.text import Text

from polylens.commands.common import Json, consoles, print_json


def benchmarks(as_json: Json = False) -> None:
    """List the benchmarks that `polylens evaluate` knows: files, pictures, and protocols.

    \b
    Examples
      polylens benchmarks
      polylens benchmarks --json
    """
    from polylens.evaluation.benchmarks.interface import benchmarks as names
    from polylens.evaluation.benchmarks.interface import find_benchmark
    from polylens.evaluation.benchmarks.protocols import PROTOCOLS

    console, _ = consoles(as_json)
    found = [find_benchmark(name) for name in names()]
    protocols = {
        one.name: [each.name for each in PROTOCOLS.values() if one.task in each.tasks] for one in found
    }
    if as_json:
        print_json(
            [
                {"name": one.name, "title": one.title, "files": one.files, "images": one.images}
                | {"protocols": protocols[one.name]}
                for one in found
            ]
        )
        return
    table = Table(show_lines=True)
    for heading in ("--benchmark", "Title", "--data", "--images", "--protocol"):
        table.add_column(heading, no_wrap=heading == "--benchmark", overflow="fold")
    for one in found:
        cells = (one.title, one.files, one.images, ", ".join(protocols[one.name]))
        table.add_row(one.name, *map(Text, cells))
    console.print(table)
