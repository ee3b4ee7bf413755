"""Owns the style sheet of all reports; colours are variables, so that charts and tables follow light and dark."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfd; --card: #ffffff; --ink: #1b1f27; --soft: #5c6675; --line:
  #e1e5ec; --accent: #2f5fd0; --accent-rgb: 47 95 208; --wrong-rgb: 201 82 55; --grid: #e9ecf2; }
@media (prefers-color-scheme: dark) { :root { --paper: #12151b; --card: #1a1f28; --ink: #e8ebf1; --soft:
  #9aa5b5; --line: #2c3442; --accent: #84a9ff; --accent-rgb: 132 169 255; --wrong-rgb: 255 138 108; --grid:
  #272e3a; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", sans-serif; font-variant-numeric: tabular-nums }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em }
h2 { font-size: 18px; margin: 40px 0 12px; overflow-wrap: anywhere }
h3 { font-size: 14px; margin: 0 0 12px; font-weight: 600 }
p.lead { margin: 0; color: var(--soft) }
.soft { color: var(--soft) }
.num { text-align: right; white-space: nowrap }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(139px, 1fr)); gap: 10px }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 12px }
.tile b { display: block; font-size: 22px; font-weight: 600; line-height: 1.3 }
.tile span { color: var(--soft); font-size: 12.5px }
.tile.first { border-color: var(--accent) }
.tile.first b { color: var(--accent) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 16px;
  margin-top: 16px }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px;
  min-width: 0 }
.card.wide { grid-column: 1 / -1 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th { font-weight: 600; font-size: 13px; color: var(--soft); text-align: left }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: top }
th.num { text-align: right }
tr:last-child > td { border-bottom: 0 }
td.key { color: var(--soft); white-space: nowrap; width: 1% }
table.matrix { width: auto; border-spacing: 3px; border-collapse: separate }
table.matrix th { border: 0; font-weight: 500 }
table.matrix td { border: 0; border-radius: 5px; text-align: center; min-width: 54px; padding: 8px 6px;
  line-height: 1.25 }
table.matrix small { display: block; font-size: 11px; opacity: .75 }
table.matrix th.side { text-align: right; vertical-align: middle }
table.matrix.dense tr:first-child th:not(.side) { writing-mode: vertical-rl; transform: rotate(180deg);
  max-width: none; max-height: 120px; text-align: left }
table.matrix.large td { min-width: 104px; height: 84px; vertical-align: middle; font-size: 22px }
table.matrix.large small { font-size: 13px }
table.matrix th:not(.side) { text-align: center }
table.matrix th { max-width: 150px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
table.matrix.dense td { min-width: 20px; padding: 3px; font-size: 11px }
.bar { display: inline-block; height: 8px; border-radius: 4px; background: rgb(var(--accent-rgb) / .75);
  vertical-align: middle }
svg { display: block; width: 100%; height: auto; max-width: 460px }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
svg .grid { stroke: var(--grid) }
svg .axis { stroke: var(--soft); stroke-width: 1 }
svg .ideal { stroke: var(--soft); stroke-dasharray: 4 4 }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 2.2; stroke-linejoin: round }
svg .under { fill: rgb(var(--accent-rgb) / .12) }
svg .dot { fill: rgb(var(--accent-rgb) / .45) }
svg .box { fill: rgb(var(--accent-rgb) / .7) }
footer { margin-top: 40px; color: var(--soft); font-size: 13px }
@media print { .card, .tile { break-inside: avoid } }
"""
