"""What the page wears and how it moves: the style sheet, the chart loader, and sorting and filtering of tables."""

STYLE = """
:root { --paper: #fbfbfa; --ink: #20262d; --muted: #5d6772; --rule: #dfe2e5; --card: #ffffff; --link: #00558b;
  --loss: #b3261e; --gain: #00694c; --stripe: #f4f5f5; color-scheme: light dark }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --ink: #e4e7ea; --muted: #9ba5af; --rule: #343b43; --card: #1c2026;
    --link: #7cc0ee; --loss: #ff8f85; --gain: #62d3ab; --stripe: #20252b }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
main, header, nav { max-width: 1152px; margin: 0 auto; padding: 0 24px }
header { padding-top: 48px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -.01em }
h2 { font-size: 21px; margin: 0 0 8px; padding-top: 28px; border-top: 1px solid var(--rule) }
section { margin: 44px 0 0 }
h3 { font-size: 15px; margin: 0 0 8px; color: #20262d }
p { margin: 0 0 12px; max-width: 1040px }
a { color: var(--link) }
p.lede { font-size: 18px }
p.warning { border-left: 3px solid var(--loss); padding-left: 12px }
nav { margin-top: 18px; font-size: 13.5px }
nav a { margin-right: 14px; white-space: nowrap; text-decoration: none }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 18px 0 22px }
.tiles div { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 14px 16px }
.tiles b { display: block; font-size: 25px; line-height: 1.25; font-weight: 600;
  font-variant-numeric: tabular-nums }
.tiles span { font-size: 13.5px; color: var(--muted) }
figure { margin: 18px 0 26px; padding: 16px; background: #fff; color: #20262d; color-scheme: light;
  border: 1px solid var(--rule); border-radius: 6px }
figure .chart { overflow-x: auto; width: 100% }
figure .chart svg { display: block }
figcaption { font-size: 14px; color: #4b545e; margin-top: 10px }
figure + details { margin-top: -14px }
figure .links { color: #4b545e; margin-bottom: 0 }
figure .links a { color: #00558b }
.caption { font-size: 14px; color: var(--muted); margin: 18px 0 6px }
.links, .note { font-size: 12.5px; color: var(--muted); margin: 6px 0 16px }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 6px; background: var(--card) }
.scroll.tall { max-height: 640px; overflow-y: auto }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums }
th { position: sticky; top: 0; background: var(--card); text-align: left; vertical-align: bottom; padding: 0;
  box-shadow: inset 0 -1px var(--rule) }
th button { all: unset; box-sizing: border-box; width: 100%; display: block; cursor: pointer;
  padding: 7px 6px; font-weight: 600; color: var(--muted); line-height: 1.25 }
th button:focus-visible { outline: 2px solid var(--link); outline-offset: -2px }
th.num button, td.num { text-align: right }
th[aria-sort=ascending] button::after { content: " ↑" }
th[aria-sort=descending] button::after { content: " ↓" }
td { padding: 5px 6px; vertical-align: top; overflow-wrap: break-word }
td:first-child { min-width: 100px }
td.num { white-space: nowrap }
td.num.range { white-space: normal }
.ci { white-space: nowrap; font-size: 11.5px }
tbody tr:nth-child(even) { background: var(--stripe) }
.mark { font-weight: 600 }
.mark.loss { color: var(--loss) }
.mark.gain { color: var(--gain) }
input[type=search] { font: inherit; font-size: 13.5px; width: 100%; max-width: 340px; padding: 6px 10px;
  margin-bottom: 8px; color: inherit; background: var(--card); border: 1px solid var(--rule);
  border-radius: 6px }
details { margin: 0 0 20px }
summary { cursor: pointer; font-size: 13.5px; color: var(--muted); margin-bottom: 8px }
li { margin-bottom: 6px }
footer { height: 72px }
@media print { nav, .links, input { display: none } .scroll.tall { max-height: none } figure,
  tr { break-inside: avoid } }
"""

DRAW = """
for (const script of document.querySelectorAll("script[data-chart]")) {
  const place = document.getElementById(script.dataset.chart);
  vegaEmbed(place, JSON.parse(script.textContent), { actions: false, renderer: "svg" })
    .catch(error => {
      place.textContent = "This chart could not be drawn (" + error.message + "); its numbers are below.";
    });
}
"""

SORT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const compare = (a, b, column) => {
    const [x, y] = [a, b].map(row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim());
    if (x === "" || y === "") return { missing: (x === "") - (y === "") };
    const [m, n] = [Number(x), Number(y)];
    return { order: Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n };
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const { missing, order } = compare(a, b, column);
      return missing ?? (down ? -order : order);
    });
    table.tBodies[0].append(...rows);
  }));
}
for (const box of document.querySelectorAll("input[data-filters]")) {
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
    for (const row of document.getElementById("table-" + box.dataset.filters).tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  });
}
"""
