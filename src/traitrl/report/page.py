"""The page itself: skeleton, style, the small sort script, and sections to HTML. One file, nothing fetched."""

from __future__ import annotations

import json
from functools import cache
from html import escape

from traitrl.report.blocks import Block, Bullets, Figure, Prose, Section, Table, Tiles
from traitrl.report.looks import DRAW, SORT, STYLE
from traitrl.report.tables import to_html

_GLOBALS = "window.vegaEmbed = vegaEmbed;"
# Nothing may be fetched, whoever wrote a title: scripts and styles are inline, and Vega compiles its expressions.
_POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"


def render_page(title: str, subtitle: str, sections: list[Section]) -> str:
    """The whole page. ``subtitle`` is plain text below the title."""
    links = "".join(f'<a href="#{escape(section.id)}">{escape(section.title)}</a> ' for section in sections)
    body = "\n".join(_section(section) for section in sections)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>
<nav aria-label="sections">{links}</nav>
<main>
{body}
</main><footer></footer>
<script>{_vega()}</script>
<script>{DRAW}{SORT}</script>
</body></html>
"""


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the copy that ships inside vl-convert."""
    import vl_convert

    return vl_convert.javascript_bundle(_GLOBALS).replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _section(section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="{escape(section.id)}"><h2>{escape(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Prose():
            return f'<p class="{block.role}">{escape(block.text)}</p>'
        case Bullets():
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in block.items) + "</ul>"
        case Tiles():
            cells = "".join(
                f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in block.items
            )
            return f'<div class="tiles">{cells}</div>'
        case Table():
            return to_html(block)
        case Figure():
            return _figure(block)


def _figure(figure: Figure) -> str:
    """A light card with the chart, its caption and links to its files, and the numbers folded below."""
    name = escape(figure.name)
    spec = json.dumps(figure.spec, sort_keys=True, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return (
        f'<figure id="figure-{name}"><h3>{escape(figure.title)}</h3>'
        f'<div class="chart" id="chart-{name}" role="img" aria-label="{escape(figure.title)}"></div>'
        f"<noscript>Charts need JavaScript; the same one is in figures/{name}.svg.</noscript>"
        f'<script type="application/json" data-chart="chart-{name}">{spec}</script>'
        f"<figcaption>{escape(figure.caption)}</figcaption>"
        f'<p class="links"><a href="figures/{name}.svg">SVG</a> · <a href="tables/{name}.csv">CSV</a></p></figure>'
        f"{to_html(figure.data)}"
    )
