"""Self-contained pages: one file each, with their data and all that draws it, which no network is needed to read."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

Spec = dict[str, Any]


def render(template: str, charts: dict[str, Spec] | None = None, **content: Any) -> str:
    """A page of templates/, with its `charts`, Vega-Lite each, drawn where it names them."""
    environment = Environment(
        loader=PackageLoader("diffusion_text.tracking"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["script_json"] = script_json
    scripts = chart_scripts() if charts else ""
    return environment.get_template(template).render(charts=charts or {}, chart_scripts=scripts, **content)


def script_json(value: Any) -> str:
    """Data as it may stand in a page's script: nothing in it can end the script."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


@cache
def chart_scripts() -> str:
    """Vega-Embed and what it needs."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")
