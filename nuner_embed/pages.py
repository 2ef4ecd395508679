"""Self-contained HTML pages: jinja2 templates, in which every value is escaped."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, folder: Path = TEMPLATES, **values: Any) -> "Markup":
    """Fills a template.

    Args:
        name: of the template's file.
        folder: where the file lies.
        values: of the template's variables; texts are escaped unless they are `Markup`.
    """
    from markupsafe import Markup

    return Markup(_environment(folder).get_template(name).render(values))  # noqa: S704 - its values were escaped


@cache
def _environment(folder: Path) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # slow to import

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
